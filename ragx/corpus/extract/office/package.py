"""Office files: zip archives of XML parts, opened with limits. Names are compared without their namespaces.

Microsoft's formats exist in two sets of namespaces (ECMA-376 transitional and ISO 29500 strict) with the same names.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from ragx.corpus.extract.parsed import UnreadableError

MAX_UNPACKED_BYTES = 200 << 20
"""Total of the parts that are read."""
PARSER_OPTIONS = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}
OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLD = {
    "WordDocument": "an old Word file (.doc): save it as .docx",
    "PowerPoint Document": "an old PowerPoint file (.ppt): save it as .pptx",
    "Workbook": "an old Excel file (.xls): rename it to .xls",
}
_NO_TITLE = re.compile(r"(powerpoint[ -]presentation|word document|document|presentation|untitled)?\s*\d*", re.I)
_OUTSIDE = "External"


class Package:
    """An open office file."""

    def __init__(self, path: Path, kind: str) -> None:
        """Args: `kind`: the format in words, for messages.

        Raises:
            UnreadableError: the file is no zip archive; the message tells encrypted and old files apart.
        """
        try:
            self._archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise UnreadableError(wrong_content(path, kind)) from None
        self.kind = kind
        self._left = MAX_UNPACKED_BYTES
        self._relations: dict[str, dict[str, tuple[str, str]]] = {}
        self._names = {name.casefold(): name for name in self._archive.namelist()}

    def __enter__(self) -> Package:
        return self

    def __exit__(
        self, type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def __contains__(self, name: str) -> bool:
        return name.casefold() in self._names

    def read(self, name: str) -> bytes:
        """The bytes of a part.

        Raises:
            UnreadableError: it is missing, damaged or encrypted, or all parts so far unpack to more than the limit.
        """
        try:
            member = self._archive.getinfo(self._names[name.casefold()])
        except KeyError:
            raise UnreadableError(f"is not {self.kind}, or it is damaged: it has no {name}") from None
        self._left -= member.file_size
        if self._left < 0:
            raise UnreadableError(f"unpacks to more than {MAX_UNPACKED_BYTES >> 20} MB")
        try:
            return self._archive.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError):
            raise UnreadableError(f"is damaged: {name} cannot be unpacked") from None
        except RuntimeError:
            raise UnreadableError("is encrypted: save it without a password") from None

    def xml(self, name: str) -> Any:
        """The root element of a part.

        Raises:
            UnreadableError: as `read`, or the part declares entities, which office programs never do.
        """
        return parse_xml(self.read(name))

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """For each id of a related part of `part` ("" for the package), its type (a word) and its name."""
        if part in self._relations:
            return self._relations[part]
        folder, base = posixpath.split(part)
        name = posixpath.join(folder, "_rels", f"{base}.rels")
        related = self._relations[part] = {}
        if name not in self:
            return related
        for relation in self.xml(name).iter("{*}Relationship"):
            target = unquote(relation.get("Target", ""))
            if relation.get("TargetMode") != _OUTSIDE:
                target = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
            related[relation.get("Id", "")] = (relation.get("Type", "").rpartition("/")[2], target)
        return related

    def related(self, part: str, type: str) -> Iterator[str]:
        """The names of existing parts of a type that `part` refers to, in the order of their ids."""
        for _, (found, target) in sorted(self.relations(part).items(), key=lambda item: _natural(item[0])):
            if found == type and target in self:
                yield target

    def main(self, default: str) -> str:
        """The name of the part that everything else hangs on."""
        return next(self.related("", "officeDocument"), default)

    def properties(self) -> tuple[str, dict[str, object]]:
        """The title, empty if it says nothing, and the metadata of a file of Microsoft's formats."""
        fields: dict[str, str] = {}
        for name in self.related("", "core-properties"):
            fields |= {local(field): " ".join((field.text or "").split()) for field in self.xml(name)}
        return useful_title(fields.get("title", "")), {
            key: fields[field]
            for key, field in (("author", "creator"), ("subject", "subject"), ("keywords", "keywords"))
            if fields.get(field)
        }


def parse_xml(data: bytes) -> Any:
    """The root element.

    Raises:
        UnreadableError: the XML is damaged, or declares entities.
    """
    from lxml.etree import XMLParser, XMLSyntaxError, fromstring

    try:
        root = fromstring(data, XMLParser(remove_comments=True, remove_pis=True, **PARSER_OPTIONS))
    except XMLSyntaxError as error:
        raise UnreadableError(f"is damaged: {error}") from None
    refuse_entities(root)
    return root


def refuse_entities(element: Any) -> None:
    """Raises an UnreadableError if the file of the element has a document type, which no office program writes."""
    if element.getroottree().docinfo.internalDTD is not None:
        raise UnreadableError("declares XML entities, which no office program does")


def useful_title(title: str) -> str:
    """`title`, or nothing if it is one that programs fill in."""
    return "" if _NO_TITLE.fullmatch(title) else title


def local(element: Any) -> str:
    """The name of an element without its namespace; empty for an entity."""
    tag = element.tag
    return tag[tag.rfind("}") + 1 :] if isinstance(tag, str) else ""


def attribute(element: Any, name: str, default: str = "") -> str:
    """The value of an attribute whatever its namespace."""
    for key, value in element.items():
        if key == name or key.endswith(f"}}{name}"):
            return str(value)
    return default


def description(element: Any) -> str:
    """What the properties of a drawing say of it in words; nothing if that is the name of a file."""
    text = "" if element is None else attribute(element, "descr")
    return "" if re.search(r"[\\/]|\.\w{3,4}$", text) else text


def child(element: Any, *names: str) -> Any:
    """The descendant at a path of names without namespaces, or None."""
    for name in names:
        if element is None:
            return None
        element = element.find(f"{{*}}{name}")
    return element


def _natural(text: str) -> tuple[str, int]:
    stem = text.rstrip("0123456789")
    return stem, int(text[len(stem) :][:9] or 0)


def wrong_content(path: Path, kind: str, stream: str = "") -> str:
    """Why a file is not of a format. `stream`: of OLE files in this format."""
    with path.open("rb") as file:
        data = file.read(8)
        if data == OLE_MARK:
            data += file.read()
    if not data.startswith(OLE_MARK):
        return f"is not {kind}, or it is damaged"
    if "EncryptedPackage".encode("utf-16-le") in data:
        return "is encrypted: save it without a password"
    for name, old in _OLD.items():
        if name != stream and name.encode("utf-16-le") in data:
            return f"is {old}"
    return f"is not {kind}, or it is damaged"
