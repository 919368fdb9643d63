"""The words of a PDF page with their positions: those drawn on it, the values of its form, and notes."""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

_HYPHENS = "\x02\ufffe"
"""PDFium's signs for a hyphen at the end of a line, where it joins two lines."""
_WORD = re.compile(f"[^\\s{_HYPHENS}]+[{_HYPHENS}]?")
_ACCENTS = dict(
    zip("`´ˆ¨˜¯˘˙˚ˇ¸˝", "\u0300\u0301\u0302\u0308\u0303\u0304\u0306\u0307\u030a\u030c\u0327\u030b", strict=True)
)
_FORMS = re.compile("[\u2f00-\u2fd5\ufb00-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]")
"""Ligatures, Arabic letters in the shape that they have in a word, and radicals in the place of ideographs."""
_UNKNOWN = re.compile("[\0-\x08\x0e-\x1f\ufffd\ue000-\uefff\uf100-\uf8ff]")
_VOWELS = 0.22
"""Share of the letters in the text of any language that is written in Latin letters."""
_BULLETS = str.maketrans(dict.fromkeys("\uf076\uf0a7\uf0b7\uf0d8\uf0fc", "\u2022"))
"""Of symbol fonts."""
_MAX_TEXT_CHARS = 100_000
"""Of an annotation."""
_HIDDEN = 1 << 1 | 1 << 5
"""Annotation flags: hidden, not viewed."""
_PASSWORD = 1 << 13
"""Field flag."""
_NOTES = ("TEXT", "HIGHLIGHT", "UNDERLINE", "STRIKEOUT", "SQUIGGLY", "CARET", "SQUARE", "CIRCLE", "INK", "STAMP")


@dataclass(slots=True)
class Word:
    """A word in the coordinates of its direction of writing: x grows with it, y upwards, in points."""

    text: str
    x0: float
    x1: float
    y: float
    """Baseline."""
    size: float
    """Of the font."""
    angle: int = 0
    """Direction of writing in degrees, against the clock."""
    order: int = 0
    """Place in the order of the drawing."""
    spaced: bool = False
    """A single character after a gap that holds no space character."""


def drawn_words(page: PdfPage) -> list[Word] | None:
    """The words drawn on a page, in the order of the drawing; None if its fonts do not tell what their glyphs mean."""
    import pypdfium2.raw as pdfium

    text_page = page.get_textpage()
    raw = text_page.raw
    count = max(pdfium.FPDFText_CountChars(raw), 0)
    get = pdfium.FPDFText_GetUnicode
    text = "".join([chr(get(raw, index)) for index in range(count)])
    if not _is_readable(text, lambda index: pdfium.FPDFText_HasUnicodeMapError(raw, index) == 1):
        return None
    x, y = ctypes.c_double(), ctypes.c_double()
    matrix, start, end = pdfium.FS_MATRIX(), pdfium.FS_RECTF(), pdfium.FS_RECTF()
    words: list[Word] = []

    def add(first: int, last: int, *, whole: bool = False) -> None:
        edge = last - 1 if text[last] in _HYPHENS and last > first else last
        if not (
            pdfium.FPDFText_GetCharOrigin(raw, first, x, y)
            and pdfium.FPDFText_GetMatrix(raw, first, matrix)
            and pdfium.FPDFText_GetLooseCharBox(raw, first, start)
            and pdfium.FPDFText_GetLooseCharBox(raw, edge, end)
        ):
            return
        size = pdfium.FPDFText_GetFontSize(raw, first) * math.hypot(matrix.c, matrix.d)
        if matrix.b == 0 < matrix.a:
            angle, baseline = 0, y.value
            x0, x1 = min(start.left, end.left), max(start.right, end.right)
            far = x1 - x0 > (edge - first + 2) * size or abs(start.bottom - end.bottom) > size / 2
            if far and not whole:
                for part in _parts(raw, first, last, size):
                    add(*part, whole=True)
                return
        else:
            angle = round(math.degrees(math.atan2(matrix.b, matrix.a))) % 360
            corners = [(a, b) for box in (start, end) for a in (box.left, box.right) for b in (box.bottom, box.top)]
            xs = [turned(a, b, angle)[0] for a, b in corners]
            x0, x1, baseline = min(xs), max(xs), turned(x.value, y.value, angle)[1]
        word = text[first : last + 1]
        if not word.isascii() or word[-1] == _HYPHENS[0]:
            word = _readable(word, raw, first)
        spaced = last == first > 0 and bool(pdfium.FPDFText_IsGenerated(raw, first - 1))
        words.append(Word(word, x0, x1, baseline, size, angle, len(words), spaced))

    for match in _WORD.finditer(text):
        add(match.start(), match.end() - 1)
    return words


def _is_readable(text: str, has_no_meaning: Callable[[int], bool]) -> bool:
    """The text is not made of numbers of glyphs. `has_no_meaning`: the font does not tell what a character means.

    Some fonts that do not tell it have the right characters all the same, so that the text itself decides.
    """
    if 2 * len(_UNKNOWN.findall(text)) > len(text):
        return False
    letters = [character for character in text if character.isascii() and character.isalpha()]
    vowels = sum(letter in "aeiouyAEIOUY" for letter in letters)
    if 2 * len(letters) < len(text) - text.count(" ") or vowels > _VOWELS * len(letters):
        return True
    return 2 * sum(map(has_no_meaning, range(len(text)))) <= len(text)


def usual_angle(words: Sequence[Word]) -> int:
    """The direction in which most of the words are written."""
    chars = Counter[int]()
    for word in words:
        chars[word.angle] += len(word.text)
    return chars.most_common(1)[0][0] if chars else 0


def _parts(raw: Any, first: int, last: int, size: float) -> Iterator[tuple[int, int]]:
    """Parts of a word that stand apart: PDFium may join the end of a line with the beginning of one elsewhere."""
    import pypdfium2.raw as pdfium

    box, begin = pdfium.FS_RECTF(), first
    pdfium.FPDFText_GetLooseCharBox(raw, first, box)
    for index in range(first + 1, last + 1):
        left, right, bottom = box.left, box.right, box.bottom
        pdfium.FPDFText_GetLooseCharBox(raw, index, box)
        if not (left - size < box.left < right + size and abs(box.bottom - bottom) < size / 2):
            yield begin, index - 1
            begin = index
    yield begin, last


def turned(x: float, y: float, angle: int) -> tuple[float, float]:
    """A point, turned clockwise by an angle in degrees."""
    if angle == 0:
        return x, y
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def _readable(word: str, raw: Any, first: int) -> str:
    """The word with a plain hyphen, with accents on their letters, and with letters in place of their ligatures."""
    if word[-1] in _HYPHENS:
        word = word[:-1] + "-"
    if any(accent in word for accent in _ACCENTS):
        word = _accented(word, raw, first)
    return _FORMS.sub(lambda match: unicodedata.normalize("NFKC", match.group()), word.translate(_BULLETS))


def _accented(word: str, raw: Any, first: int) -> str:
    """The word with each accent that is drawn over the next letter, as TeX does, combined with that letter."""
    import pypdfium2.raw as pdfium

    box, parts, index = pdfium.FS_RECTF(), [], 0
    while index < len(word):
        letter = word[index + 1 : index + 2]
        if word[index] in _ACCENTS and letter.isalpha():
            pdfium.FPDFText_GetLooseCharBox(raw, first + index, box)
            middle = (box.left + box.right) / 2
            pdfium.FPDFText_GetLooseCharBox(raw, first + index + 1, box)
            if box.left < middle < box.right:
                parts.append(unicodedata.normalize("NFC", letter.replace("\u0131", "i") + _ACCENTS[word[index]]))
                index += 2
                continue
        parts.append(word[index])
        index += 1
    return "".join(parts)


def annotated_words(document: PdfDocument, page: PdfPage, drawn: list[Word]) -> tuple[list[Word], list[str]]:
    """The values of a page's form fields and its text boxes, as words in their place, and the text of its notes.

    `drawn`: the words of the page; a value that is drawn as well is left out. Passwords and hidden fields are not read.
    """
    import pypdfium2.raw as pdfium

    kinds = {getattr(pdfium, f"FPDF_ANNOT_{name}") for name in _NOTES}
    words: list[Word] = []
    notes: list[str] = []
    for index in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        kind = pdfium.FPDFAnnot_GetSubtype(annotation)
        if not pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
            if kind == pdfium.FPDF_ANNOT_WIDGET and document.formenv:
                words += _placed(_field_value(document.formenv.raw, annotation), annotation, drawn)
            elif kind == pdfium.FPDF_ANNOT_FREETEXT:
                words += _placed(_string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents"), annotation, drawn)
            elif kind in kinds:
                notes.append(_string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents"))
        pdfium.FPDFPage_CloseAnnot(annotation)
    return words, [note for note in notes if note.strip()]


def _field_value(form: Any, field: Any) -> str:
    """What a field shows: its text, the chosen options, or [x] for a ticked box."""
    import pypdfium2.raw as pdfium

    kind = pdfium.FPDFAnnot_GetFormFieldType(form, field)
    if kind in (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON):
        return "[x]" if pdfium.FPDFAnnot_IsChecked(form, field) else ""
    if kind in (pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX):
        chosen = [
            _string(pdfium.FPDFAnnot_GetOptionLabel, form, field, index)
            for index in range(min(pdfium.FPDFAnnot_GetOptionCount(form, field), 10_000))
            if pdfium.FPDFAnnot_IsOptionSelected(form, field, index)
        ]
        return "\n".join(chosen) or _string(pdfium.FPDFAnnot_GetFormFieldValue, form, field)
    if kind == pdfium.FPDF_FORMFIELD_TEXTFIELD and not pdfium.FPDFAnnot_GetFormFieldFlags(form, field) & _PASSWORD:
        return _string(pdfium.FPDFAnnot_GetFormFieldValue, form, field)
    return ""


def _string(get: Callable[..., int], *arguments: Any) -> str:
    """The UTF-16 text of one of PDFium's functions."""
    from pypdfium2.raw import FPDF_WCHAR

    size = min(get(*arguments, None, 0), 2 * _MAX_TEXT_CHARS)
    buffer = (FPDF_WCHAR * (size // 2 + 1))()
    get(*arguments, buffer, size)
    return bytes(buffer).decode("utf-16-le", "replace").partition("\0")[0]


def _placed(text: str, annotation: Any, drawn: list[Word]) -> Iterator[Word]:
    """The lines of an annotation's text, spread over its rectangle."""
    import pypdfium2.raw as pdfium

    lines = [line for line in text.splitlines() if line.strip()]
    box = pdfium.FS_RECTF()
    if not lines or not pdfium.FPDFAnnot_GetRect(annotation, box):
        return
    angle = usual_angle(drawn)
    (left, right), (bottom, top) = (
        sorted(pair)
        for pair in zip(turned(box.left, box.bottom, angle), turned(box.right, box.top, angle), strict=True)
    )
    inside = (w.text for w in drawn if w.angle == angle and left - 2 <= w.x0 <= right and bottom - 2 <= w.y <= top)
    if "".join(text.split()) in "".join(inside):
        return
    pitch = (top - bottom) / len(lines)
    size = min(pitch * 0.8, 12)
    for number, line in enumerate(lines):
        yield Word(line.strip(), left, right, top - pitch * (number + 0.5) - size * 0.35, size, angle)
