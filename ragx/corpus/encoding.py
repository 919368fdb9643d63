"""Bytes of a text file -> text, whatever its encoding.

UTF-8, UTF-16 and UTF-32 are recognised by a mark or by the bytes themselves, also if some are damaged. Code pages are
told apart by chardet's models of languages; `python -m benchmarks.charsets` measures it.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass

BINARY = "looks like a binary file, not text"
"""The reason for skipping a file that has no `Decoded`."""

_MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_WIDTHS = {"utf-32-le": 4, "utf-32-be": 4, "utf-16-le": 2, "utf-16-be": 2}
_CODE_PAGES = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "tis-620",
    "koi8-r", "koi8-u", "cp437", "cp850", "cp852", "cp866", "mac-roman",
    "gb18030", "big5hkscs", "cp932", "shift_jis_2004", "euc_jis_2004", "iso2022_jp_2", "cp949", "euc_kr",
    "iso8859-1", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9",
    "iso8859-13", "iso8859-15",
)  # fmt: skip
"""Those that text files are found in. Rarer ones would win short texts by chance."""

_SAMPLE_BYTES = 1 << 16
"""Bytes of the lines that hold other characters than ASCII: enough to recognise their code page."""
_BEFORE_BYTES = 100
_REST_OF_LINE = re.compile(rb"[\x80-\xff][^\n\r]{0,4096}")
_FEW = 8
"""Characters outside ASCII that are too few to judge by."""
_LIKELY = 0.8
"""A text with few of them is read as Windows-1252 if that has at least this share of the best guess's confidence."""
_NO_IDEA = 0.05
"""Confidence below which the best guess says nothing."""
_CLOSE = 0.98
"""A guess is uncertain if another has this share of its confidence."""

_CONTROLS = bytes([*range(1, 8), *range(14, 27), *range(28, 32), 127])
_ZEROS = re.compile(rb"\0+")
_MAX_GAPS = 5
"""Runs of zeros in a text that a crash damaged; a binary file has more."""
_C1 = re.compile("[\x80-\x9f]")
_SMALL = "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœþð"
_CAPITAL = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝŒÞÐ"
_JOINING, _SIGNS = "’·–—\xa0\xad", "‘“”…«»€£°©®§µ¿¡•²³½¼¾×ªº"
_UNLIKELY = re.compile(
    f"[^\0-\x7f{_SMALL}{_CAPITAL}{_JOINING}{_SIGNS}]|(?<=[a-z{_SMALL}])[{_CAPITAL}]|(?<=[^\\W\\d_])[{_SIGNS}](?=[^\\W\\d_])"
)
"""What Western European texts in Windows-1252 rarely hold, but others read as Windows-1252 do: characters of other
languages, a capital after a small letter, a sign inside a word."""
_OTHER_ALPHABETS = "\u0370-\u06ff"
_ALPHABET = re.compile(f"[{_OTHER_ALPHABETS}]+")
_MIXED = re.compile(f"[A-Za-z][{_OTHER_ALPHABETS}]|[{_OTHER_ALPHABETS}][A-Za-z]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text of a file."""

    text: str
    encoding: str
    """Name of a Python codec."""
    notices: tuple[str, ...] = ()
    """One line each: what was replaced or dropped, or that the encoding is uncertain."""


def decode(data: bytes) -> Decoded | None:
    """The text of a file; None for a binary file. Line ends stay as they are; a mark at the beginning is dropped."""
    for mark, codec in _MARKS.items():
        if data.startswith(mark):
            return _marked(data[len(mark) :], codec)
    body = data.rstrip(b"\0")  # a crash leaves zeros at the end of a log
    zeros = body.count(0)
    controls = len(body) - len(body.translate(None, _CONTROLS))
    text = body.decode("utf-8", "replace")
    replaced = text.count("\ufffd")
    invalid = replaced - body.count(b"\xef\xbf\xbd")
    if controls > 1 and controls * 50 > len(body):
        return _wide(data) if zeros or invalid else None
    if zeros and (zeros * 4 > len(body) or invalid * 10 > len(body)):
        return _wide(data)
    if (controls or invalid) and len(_ZEROS.findall(body)) > _MAX_GAPS:
        return None
    valid = len(text) - replaced - len(text.encode("ascii", "ignore"))  # characters outside ASCII
    latin = (valid + invalid) * 4 < len(text)  # East Asian code pages hold pairs of bytes that are UTF-8 by chance
    if not invalid or invalid * (1 if latin else 2) <= valid:
        return _noted(text, "utf-8", invalid)
    return None if zeros else _code_page(body, mixed=valid * 2 > invalid)


def _marked(data: bytes, codec: str) -> Decoded | None:
    text = data.decode(codec, "replace").rstrip("\0")
    invalid = max(0, text.count("\ufffd") - data.count("\ufffd".encode(codec)))
    # damage adds few of these, a binary file that begins with the mark by chance adds many
    return None if codec != "utf-8" and invalid > 1 + len(text) // 50 else _noted(text, codec, invalid)


def _noted(text: str, codec: str, invalid: int) -> Decoded:
    notices = []
    if invalid:
        notices.append(f"{_count(invalid, 'byte sequence')} not valid {codec.upper()}, replaced by U+FFFD")
    if zeros := text.count("\0"):
        text = text.replace("\0", "")
        notices.append(f"{_count(zeros, 'NUL byte')} inside the text, dropped")
    return Decoded(text, codec, tuple(notices))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number > 1)}"


def _wide(data: bytes) -> Decoded | None:
    """Text in UTF-32 or UTF-16 without a mark: of those whose characters are text, the one with the fewest scripts.

    A script has few first bytes; read in the wrong order, its second bytes seem to be many scripts.
    """
    found: list[tuple[int, str, str, int]] = []
    for codec, width in _WIDTHS.items():
        rest = len(data) % width
        if rest and len(data) < _FEW * width:
            continue
        try:
            text = data[: len(data) - rest].decode(codec)
        except UnicodeDecodeError:
            continue
        characters = set(text)
        strange = [c for c in characters if unicodedata.category(c) in ("Cc", "Cn", "Co") and c not in "\t\n\r\f\x1b"]
        if text and "\0" not in characters and sum(map(text.count, strange)) * 200 <= len(text):
            found.append((len({ord(c) >> 8 for c in characters}), codec, text, rest))
    if not found:
        return None
    _, codec, text, rest = min(found)
    return _noted(text + "\ufffd" * (rest > 0), codec, int(rest > 0))


def _code_page(data: bytes, *, mixed: bool) -> Decoded | None:
    """The best guess of chardet, or Windows-1252 where little speaks against it."""
    from chardet import detect_all

    sample = _sample(data)
    guesses = detect_all(
        sample, ignore_threshold=True, max_bytes=len(sample), include_encodings=_CODE_PAGES, compat_names=False
    )
    texts: dict[str, tuple[float, str]] = {}
    for guess in guesses:
        codec, confidence = str(guess["encoding"]), guess["confidence"]
        try:
            text = codecs.getincrementaldecoder(codec)().decode(sample)  # it may end inside a character
        except UnicodeDecodeError:
            continue
        if not _C1.search(text) and len(_MIXED.findall(text)) * 2 <= len(_ALPHABET.findall(text)):
            texts[codec] = confidence, text
    if not texts:
        return None
    codec, (confidence, text) = next(iter(texts.items()))
    few = len(text) - len(text.encode("ascii", "ignore")) <= _FEW
    western, western_text = texts.get("cp1252", (0.0, ""))
    likely = "cp1252" in texts and not _UNLIKELY.search(western_text)
    if western_text == text or (few and likely and (western >= _LIKELY * confidence or confidence < _NO_IDEA)):
        codec, confidence, text = "cp1252", western, western_text
    rivals = [name for name, (other, found) in texts.items() if found != text and other >= _CLOSE * confidence]
    uncertain = mixed or (bool(rivals) and not likely if codec == "cp1252" else few or bool(rivals))
    whole = data.decode(codec, "replace")
    notices = []
    if uncertain:
        notices.append(f"read as {codec}, which is a guess: convert the file to UTF-8 if its text is garbled")
    if undefined := whole.count("\ufffd"):
        notices.append(f"{_count(undefined, 'byte sequence')} undefined in {codec}, replaced by U+FFFD")
    return Decoded(whole, codec, tuple(notices))


def _sample(data: bytes) -> bytes:
    """The lines with bytes outside ASCII, up to about `_SAMPLE_BYTES`; all of a short text."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    sample, end = bytearray(), 0
    for rest in _REST_OF_LINE.finditer(data):
        start = max(end, rest.start() - _BEFORE_BYTES)
        sample += b"\n" * (start > end) + data[start : rest.end()]
        end = rest.end()
        if len(sample) >= _SAMPLE_BYTES:
            break
    return bytes(sample)
