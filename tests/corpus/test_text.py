"""A text document is exactly what `open().read()` gives, NFC-normalised, in whatever encoding the file is."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.corpus.document import Document, normalise
from ragx.corpus.text import markdown_title, read_text, rst_title


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("text")


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


visible = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip)


@given(visible, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(["\n", "\r\n", "\r"]))
def test_text_is_what_open_reads_in_normal_form_c(folder, text, encoding, newline):
    path = folder / "a.txt"
    path.write_bytes(decomposed(text).replace("\n", newline).encode(encoding))
    document = read_text(path, "a")
    assert isinstance(document, Document)
    if encoding == "utf-8" and text.startswith("\ufeff"):
        encoding = "utf-8-sig"
    with path.open(encoding=encoding) as file:
        assert document.text == unicodedata.normalize("NFC", file.read())
    assert (document.id, document.title, document.source) == ("a", "a", str(path))


GERMAN = "Der Schnee fällt über Nürnberg, und die Straßen füllen sich mit Kindern."
JAPANESE = "x雪は日光の大部分を反射する。暗い土は吸収する。\r"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (f"{GERMAN} " * 5, "cp1252"),
        *((f"{GERMAN}{newline}" * 20_000, "cp1252") for newline in "\n\r "),
        (JAPANESE * 25_000, "gb18030"),  # the sample must not end inside a character
    ],
    ids=["short", "LF", "CR", "one line", "multibyte"],
)
def test_another_encoding_is_guessed(tmp_path, text, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert read_text(path, "a").text == text.replace("\r", "\n")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        *((data, "binary") for data in (b"\x7fELF\0\0\x01", b"text, then\0a zero", "a\0b".encode("utf-16"))),
        (b"\xff\xfea\0b", "utf-16"),
        *((data, "has no text") for data in (b"", b" \n\t", b"\xef\xbb\xbf")),
    ],
)
def test_a_file_that_holds_no_text_is_skipped(tmp_path, data, reason):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    skipped = read_text(path, "a")
    assert skipped.source == str(path)
    assert reason in skipped.reason


def test_a_file_above_the_limit_is_skipped(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * (1 << 20))
    assert isinstance(read_text(path, "a", max_bytes=1 << 20), Document)
    path.write_bytes(b"a" * ((1 << 20) + 1))
    assert "larger than 1 MB" in read_text(path, "a", max_bytes=1 << 20).reason


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Snow and ice #\ntext", "Snow and ice"),
        ("intro\n\n## Second level\n# First", "Second level"),
        ("```sh\n# a comment\n```\n# Real", "Real"),
        ("Underlined\n====\ntext", "Underlined"),
        ("#hashtag\nno heading", None),
        ("---\nkey: value\n---\ntext", None),
        ("#   \n", None),
    ],
)
def test_the_first_markdown_heading_is_the_title(text, title):
    assert markdown_title(text) == title


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Snow\n====\n\ntext", "Snow"),
        ("====\nSnow\n====\n", "Snow"),
        ("text\n\nLater\n-----\n", "Later"),
        ("Longer than its line\n===\n", None),
        (".. note::\n   text\n", None),
    ],
)
def test_the_first_underlined_heading_is_the_title(text, title):
    assert rst_title(text) == title


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("a.md", "# T\u0065\u0301\n", "Té"),
        ("a.rst", "T\n=\nT 2\n===\n", "T 2"),
        ("a b.txt", "# T", "a b"),
        ("c.md", "x", "c"),
    ],
)
def test_the_title_is_the_heading_or_the_name_of_the_file(tmp_path, name, text, title):
    (tmp_path / name).write_text(text)
    assert read_text(tmp_path / name, name).title == title


@given(st.text(st.characters()))
def test_normalised_text_can_be_written_and_is_stable(text):
    normal = normalise(text)
    assert normal.encode().decode() == normal == normalise(normal)


def test_a_pair_of_surrogates_becomes_its_character_and_a_lone_one_the_replacement():
    assert normalise("\ud83d\ude00 \ud83d!") == "😀 \ufffd!"
