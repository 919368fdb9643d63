"""Rich Text Format (.rtf, version 1.9.1), with tracked changes accepted.

Read here, because the libraries for it drop notes, headers, text boxes, headings and the document's properties.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ragx.corpus.extract.office.comment import comment
from ragx.corpus.extract.office.package import useful_title, wrong_content
from ragx.corpus.extract.parsed import CELL_SEPARATOR, Parsed, UnreadableError
from ragx.corpus.extract.rtf.characters import CHARACTER_SETS, CHARACTERS, SYMBOLS, encoding_of
from ragx.corpus.extract.rtf.story import Story
from ragx.util.text import counted

_TOKEN = re.compile(
    rb"\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?\d{1,10})? ?|\\'(?P<byte>[0-9a-fA-F]{2})|\\(?P<symbol>[\x00-\xff])"
    rb"|(?P<brace>[{}])|(?P<text>[^\\{}\r\n]+)|[\r\n]+"
)
_BOXES = ("shptxt", "dptxbxtext")
_HEADERS = ("header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf")
_PROPERTIES = ("title", "author", "subject", "keywords")
_LABELS = ("listtext", "pntext")
_COMMENTS = ("atnauthor", "annotation")
_STORIES = frozenset(("footnote", *_BOXES, *_HEADERS, *_PROPERTIES, *_LABELS, *_COMMENTS))
_SHOWN = ("fldrslt", "shpinst", "shppict", "result", "ud", "moMath", "moMathPara", "do", "nesttableprops")
"""Optional destinations that are read, at least in part."""
_SKIPPED = (
    "colortbl", "pict", "xe", "tc", "rxe", "nonesttables", "nonshppict", "shprslt", "sp", "fldinst", "objdata",
    "ftnsep", "ftnsepc", "aftnsep", "aftnsepc", "revtim", "creatim", "printim", "buptim", "operator", "company",
    "category", "doccomm", "comment", "manager", "template",
)  # fmt: skip
"""Destinations to skip, although they are not marked as optional."""
_EQUATION_PROPERTIES = re.compile("m[a-zA-Z]*Pr")


def parse(path: Path, comments: bool = False) -> Parsed:
    """The text of a document: paragraphs, lists, tables, notes, text boxes, headers and footers.

    Raises:
        UnreadableError: it is no RTF file.
    """
    data = path.read_bytes()
    if not data.lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(b"{\\rtf"):
        raise UnreadableError(wrong_content(path, "an RTF file"))
    return _Reader(data, comments).parsed()


@dataclass(slots=True)
class _Group:
    """The state that a closing brace restores."""

    kind: str = ""
    """The destination that the group is; empty for a part of the one around it."""
    is_hidden: bool = False
    is_deleted: bool = False
    """By a tracked change."""
    is_optional: bool = False
    """Programs that do not know the destination that follows skip it (`\\*`)."""
    is_first_hidden: bool = False
    """The next group is for programs that do not know Unicode (`\\upr`)."""
    fallback: int = 1
    """Characters after each one in Unicode that stand for it in old programs (`\\uc`)."""
    encoding: str = ""
    style: int = 0
    level: int = 0
    """Of a heading, from 1."""
    list_level: int = 0
    """From 0."""
    in_table: bool = False

    @property
    def is_shown(self) -> bool:
        return not self.is_hidden and not self.is_deleted


class _Reader:
    def __init__(self, data: bytes, comments: bool) -> None:
        self.data = data
        self.comments = comments
        self._author = ""
        self.group = _Group(encoding="cp1252")
        self.groups: list[_Group] = []
        self.stories = [Story()]
        self.properties: dict[str, str] = {}
        self.headers: list[str] = []
        self.fonts: dict[int, str] = {}
        self.levels: dict[int, int] = {}
        """Levels of headings by the number of their style."""
        self._font = self._default_font = 0
        self._default = "cp1252"
        self._objects = 0
        self._bytes = bytearray()
        self._left_out = 0
        """Characters to skip after one in Unicode."""

    def parsed(self) -> Parsed:
        position = 0
        while position < len(self.data):
            token = _TOKEN.match(self.data, position)
            if token is None:  # a lone backslash at the end
                break
            position = token.end()
            match token.lastgroup:
                case "text":
                    self._add_bytes(token["text"])
                case "byte":
                    self._add_bytes(bytes([int(token["byte"], 16)]))
                case "brace":
                    self._flush()
                    self._left_out = 0
                    if token["brace"] == b"{":
                        self._open()
                    else:
                        self._close()
                        if not self.groups:
                            break
                case "symbol":
                    self._symbol(token["symbol"].decode("latin-1"))
                case "word" | "number":
                    number = int(token["number"] or b"0")
                    if token["word"] == b"bin":
                        position += max(number, 0)
                    else:
                        self._word(token["word"].decode(), number, token["number"] is not None)
        self._flush()
        missing = ["its end is missing"] if self.groups else []
        if self._objects:
            missing.append(f"{counted(self._objects, 'embedded object')} could not be read")
        while self.groups:
            self._close()
        story = self.stories[0]
        story.finish()
        for header in dict.fromkeys(self.headers):
            if any(map(str.isalpha, header)):
                story.text.add(header)
        properties = {name: value for name, value in self.properties.items() if value}
        title = useful_title(properties.pop("title", ""))
        return Parsed(story.text.text, title, story.text.headings, metadata={**properties}, missing=missing)

    def _open(self) -> None:
        self.groups.append(self.group)
        hidden = self.group.is_hidden or self.group.is_first_hidden
        self.group.is_first_hidden = False
        self.group = replace(self.group, kind="", is_optional=False, is_hidden=hidden, is_first_hidden=False)

    def _close(self) -> None:
        if not self.groups:
            return
        group, self.group = self.group, self.groups.pop()
        if group.kind in _STORIES:
            story = self.stories.pop()
            if group.kind in _LABELS:
                label = story.paragraph().strip()
                self.stories[-1].label = f"{label} " if any(map(str.isalnum, label)) else "- " if label else ""
                return
            text = story.finish()
            if group.kind in _PROPERTIES:
                self.properties[group.kind] = " ".join(text.split())
            elif group.kind in _HEADERS:
                self.headers.append(text)
            elif group.kind in _BOXES:
                self.stories[-1].after.append(text)
            elif group.kind == "atnauthor":
                self._author = " ".join(text.split())
            elif group.kind == "annotation":
                self.stories[-1].after += [comment(self._author, text)] if text.strip() else []
            elif text:
                self.stories[-1].after.append("Note: " + " ".join(text.split()))

    def _add_bytes(self, data: bytes) -> None:
        left_out = min(self._left_out, len(data))
        self._left_out -= left_out
        if self.group.is_shown or self._in("stylesheet"):
            self._bytes += data[left_out:]

    def _add(self, text: str) -> None:
        self._flush()
        if self.group.is_shown:
            self.stories[-1].runs.append(text)

    def _flush(self) -> None:
        if self._bytes:
            text = self._bytes.decode(self.group.encoding or self._default, "replace")
            self._bytes.clear()
            if self.group.is_shown:
                self.stories[-1].runs.append(text)
            elif self._in("stylesheet"):
                self._name_style(text)

    def _in(self, kind: str) -> bool:
        return self.group.kind == kind or any(group.kind == kind for group in self.groups[-2:])

    def _name_style(self, name: str) -> None:
        if heading := re.fullmatch("heading ([1-9]);?", name.strip(), re.I):
            self.levels.setdefault(self.group.style, int(heading[1]))

    def _symbol(self, symbol: str) -> None:
        if symbol == "*":
            self.group.is_optional = True
        elif symbol in "\r\n":
            self._word("par", 0, False)
        elif self._left_out:
            self._left_out -= 1
        elif symbol in SYMBOLS:
            self._add(SYMBOLS[symbol])

    def _word(self, word: str, number: int, has_number: bool) -> None:
        if word == "u":
            self._add(chr(number % 65536))
            self._left_out = self.group.fallback
            return
        if self._left_out:
            self._left_out -= 1
            return
        self._flush()
        group, story = self.group, self.stories[-1]
        is_optional, group.is_optional = group.is_optional, False
        match word:
            case _ if word in CHARACTERS:
                self._add(CHARACTERS[word])
            case "uc":
                group.fallback = min(max(number, 0), 10)
            case "f" if self._in("fonttbl"):
                self._font = number
            case "fcharset" | "cpg" if self._in("fonttbl"):
                encoding = CHARACTER_SETS.get(number, "") if word == "fcharset" else encoding_of(number)
                self.fonts[self._font] = encoding or self.fonts.get(self._font, "")
            case "f":
                group.encoding = self.fonts.get(number, "")
            case "ansicpg":
                self._default = encoding_of(number) or self._default
                group.encoding = ""
            case "mac" | "pc" | "pca":
                self._default = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}[word]
                group.encoding = ""
            case "upr":
                group.is_first_hidden = True
            case "s" | "cs" | "ts" | "ds" if self._in("stylesheet"):
                group.style = number if word == "s" else -1  # a style of something other than paragraphs
            case "outlinelevel" if self._in("stylesheet"):
                self.levels[group.style] = number + 1 if 0 <= number < 9 else 0
            case "fonttbl" | "stylesheet":
                group.kind, group.is_hidden = word, True
            case _ if group.is_hidden:
                return
            case "deleted":
                group.is_deleted = not has_number or number != 0
            case _ if group.is_deleted and word in ("par", "cell", "row"):
                return
            case "plain":
                group.is_deleted = False
                group.encoding = self.fonts.get(self._default_font, "")
            case "deff":
                self._default_font = number
            case _ if word in _STORIES and (self.comments or word not in _COMMENTS):
                group.kind, group.level, group.in_table = word, 0, False
                self.stories.append(Story())
            case _ if word in _SKIPPED or _EQUATION_PROPERTIES.fullmatch(word):
                group.is_hidden = True
            case _ if is_optional and word not in _SHOWN:
                group.is_hidden = True
            case "object":
                self._objects += 1
            case "pard":
                group.level, group.list_level, group.in_table = 0, 0, False
            case "ilvl":
                group.list_level = min(max(number, 0), 8)
            case "s":
                group.level = self.levels.get(number, 0)
            case "outlinelevel":
                group.level = number + 1 if 0 <= number < 9 else 0
            case "intbl":
                group.in_table = True
            case "par" | "sect" | "page":
                story.end_paragraph(group.level, group.in_table, group.list_level)
            case "cell":
                story.end_paragraph(in_table=True)
                story.cells.append(" ".join(" ".join(story.cell).split()))
                story.cell = []
            case "row":
                story.end_row()
            case "nestcell":
                story.end_paragraph(in_table=True)
                story.nested.append(" ".join(" ".join(story.cell).split()))
                story.cell = []
            case "nestrow":
                story.after.append(CELL_SEPARATOR.join(story.nested))
                story.nested = []
            case "trowd":
                story.merges = [""]
            case "clvmrg" | "clmrg" if story.merges:
                story.merges[-1] = word
            case "cellx":
                story.merges.append("")
