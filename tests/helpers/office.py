"""Office files made of the parts that a test gives."""

from __future__ import annotations

import base64
import lzma
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


OLD_WORKBOOK = lzma.decompress(
    base64.b85decode(
        "T>t<81poj4|NsC0{{Uz+z8r=ycVP6SgepJ`9Cjyy@{xwzh{`9r;h?w11QTbQ&6v4qH5DqE;RDmf=*-ddOF!ADBJp6^u*dE%)j~d{"
        "qlzMTfmIQ38#MY4`=iQc0LNj?E2yB5A(vqWx@p0U6P@GS0(3<_XCNVJCdeWJVe>%_kxRXrXkkI@1PshgRTPo~br?s3v0BL0&#yaO"
        "1YIXu=8xVZ86%PgQp)G|4K_}@Z**jvsAC2ErLIm%qJZsCuhZXYhFIWpB#fCe@o)XEoa^fa<QdeoUc3++VTPbpI>mnW?Z?)1^jgCg"
        "K~~Lk+}iX#RmK#Ocp;+!18^MR*&1q~C~p(MO~2eDJ(GP%<smi{vWgq)*@Ecto9z0gPd+&S^F{_Xru9s;fhcvJo%3ivSzJZwZ1KD|"
        "n@9eT8jpc_cN?fN*yZ7zf#oMvw>Svf23KK2K%U&|^7IthHcbaFERL1l6@LDCSM2Gh9G&(08Fy$fF(vV1wpph0(04$rY&2|8o8Pak"
        "ht6<JQGbSf&CjemE-!!>urO%n?g&qDAe8>QAL@HG{^x?K1uXty`<`0`q3FTis~~kJ??`#TKOq1TC0f``%U*g~JNdx|2J1H8l~wQ~"
        "7zq*9z_odas{(L-JY8h+VHQ^~K_x%+&{NNb)2ybr{$`&9B#_d_w%!C}(MFH|=sr>C@?Jgir-mN3>{-ee0w8&3$)|LI>BCrKL|_pC"
        "^Df3NnQHqSDnn!(ef_<%#2J=p2<m5NAM!oUVW<Uc--vRmRCyVZiGz%%VZSC}tH~T9i+JGENP~!4vE3scN1sB2%uZEEf5;$V`J;ep"
        "$rk)a>dxArdxT7w_}D*mJOqo(tzA$N&JRU1J;?#<Jz7wjG3B3jYo6mpb}sk37C!"
    )
)
"""A workbook in the format of Excel 97, made with xlwt 1.3.0."""


def small_file(path: Path, text: str) -> Path:
    """A small file of the format that the suffix of `path` names."""
    run = f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>"
    slide = f"<p:cSld><p:spTree><p:sp><p:txBody>{run}</p:txBody></p:sp></p:spTree></p:cSld>"
    rows = f'<x:row><x:c t="inlineStr"><x:is><x:t>{text}</x:t></x:is></x:c></x:row>' * 2
    office = "urn:oasis:names:tc:opendocument:xmlns"
    names = f'xmlns:office="{office}:office:1.0" xmlns:text="{office}:text:1.0"'
    body = f"<office:body><office:text><text:p>{text}</text:p></office:text></office:body>"
    match path.suffix:
        case ".pptx":
            parts = {
                "ppt/presentation.xml": xml("p:presentation", '<p:sldIdLst><p:sldId r:id="r1"/></p:sldIdLst>'),
                "ppt/_rels/presentation.xml.rels": relations({"slide:r1": "1.xml"}),
                "ppt/1.xml": xml("p:sld", slide),
            }
        case ".xlsx":
            parts = {
                "xl/workbook.xml": xml("x:workbook", '<x:sheets><x:sheet name="a" r:id="r1"/></x:sheets>'),
                "xl/_rels/workbook.xml.rels": relations({"worksheet:r1": "1.xml"}),
                "xl/1.xml": xml("x:worksheet", f"<x:sheetData>{rows}</x:sheetData>"),
            }
        case ".odt":
            content = f"<office:document-content {names}>{body}</office:document-content>"
            parts = {"content.xml": content, "meta.xml": content, "styles.xml": content}
        case ".rtf":
            ansi = text.encode("cp1252", "replace").decode("cp1252")
            path.write_bytes(f"{{\\rtf1\\ansi{{\\b {ansi}}}\\par {ansi}}}".encode("cp1252"))
            return path
        case ".xls":
            path.write_bytes(OLD_WORKBOOK)
            return path
        case suffix:
            raise ValueError(suffix)
    return write_parts(path, parts)
