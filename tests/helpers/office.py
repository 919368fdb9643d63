"""Office files made of the parts that a test gives."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

PACKAGE = "http://schemas.openxmlformats.org/package/2006"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
NAMESPACES = " ".join(
    f'xmlns:{prefix}="http://{uri}"'
    for prefix, uri in {
        "w": "schemas.openxmlformats.org/wordprocessingml/2006/main",
        "r": "schemas.openxmlformats.org/officeDocument/2006/relationships",
        "m": "schemas.openxmlformats.org/officeDocument/2006/math",
        "a": "schemas.openxmlformats.org/drawingml/2006/main",
        "c": "schemas.openxmlformats.org/drawingml/2006/chart",
        "dgm": "schemas.openxmlformats.org/drawingml/2006/diagram",
        "p": "schemas.openxmlformats.org/presentationml/2006/main",
        "x": "schemas.openxmlformats.org/spreadsheetml/2006/main",
        "xdr": "schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing",
        "wp": "schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
        "wps": "schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "mc": "schemas.openxmlformats.org/markup-compatibility/2006",
        "cp": "schemas.openxmlformats.org/package/2006/metadata/core-properties",
        "dc": "purl.org/dc/elements/1.1/",
    }.items()
)
NAMESPACES += ' xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office"'


def xml(tag: str, content: str) -> str:
    """An element with every namespace that office files declare."""
    return f'<?xml version="1.0" encoding="UTF-8"?><{tag} {NAMESPACES}>{content}</{tag}>'


def relations(targets: Mapping[str, str]) -> str:
    """A part of relations: the id of each is its type, or what follows a colon in "type:id"."""
    found = (
        f'<Relationship Id="{key.rpartition(":")[2]}" Type="{RELATIONS}/{key.partition(":")[0]}" Target="{target}"/>'
        for key, target in targets.items()
    )
    return f'<Relationships xmlns="{PACKAGE}/relationships">{"".join(found)}</Relationships>'


def write_parts(path: Path, parts: Mapping[str, str | bytes]) -> Path:
    """A zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def core_properties(title: str, author: str) -> str:
    return xml("cp:coreProperties", f"<dc:title>{title}</dc:title><dc:creator>{author}</dc:creator>")


def old_office_file(*streams: str) -> bytes:
    """The beginning of an OLE file with the names of its streams, as far as they tell the formats apart."""
    names = b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in streams)
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + names
