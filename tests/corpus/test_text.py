"""A text document is what `open().read()` gives, NFC-normalised."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.corpus.document import Document, Skipped, normalise
from ragx.corpus.text import read_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("text")


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


visible = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t")).filter(str.strip)


@settings(deadline=None)
@given(visible, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(["\n", "\r\n", "\r"]))
def test_text_is_what_open_reads_in_normal_form_c(folder, text, encoding, newline):
    path = folder / "a.txt"
    path.write_bytes(decomposed(text).replace("\n", newline).encode(encoding))
    document = next(read_text(path, "a"))
    assert isinstance(document, Document)
    if encoding == "utf-8" and text.startswith("\ufeff"):
        encoding = "utf-8-sig"
    with path.open(encoding=encoding) as file:
        assert document.text == unicodedata.normalize("NFC", file.read())
    assert (document.id, document.title, document.source) == ("a", "a", str(path))


def test_a_binary_file_is_skipped(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\x7fELF\0\0\x01")
    assert list(read_text(path, "a")) == [Skipped(str(path), "looks like a binary file, not text")]


def test_a_file_with_a_stray_byte_is_kept_and_reported(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("Schnee fällt \xff über Nürnberg.".encode().replace(b"\xc3\xbf", b"\xff"))
    document, skipped = read_text(path, "a")
    assert document.text == "Schnee fällt \ufffd über Nürnberg."
    assert skipped.source == str(path)
    assert "not valid UTF-8" in skipped.reason


@pytest.mark.parametrize("data", [b"", b" \n\t", b"\xef\xbb\xbf"])
def test_a_file_without_text_is_skipped(tmp_path, data):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert list(read_text(path, "a")) == [Skipped(str(path), "has no text")]


def test_a_file_above_the_limit_is_skipped(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * (1 << 20))
    assert isinstance(next(read_text(path, "a", max_bytes=1 << 20)), Document)
    path.write_bytes(b"a" * ((1 << 20) + 1))
    assert "larger than 1 MB" in next(read_text(path, "a", max_bytes=1 << 20)).reason


@given(st.text(st.characters()))
def test_normalised_text_can_be_written_and_is_stable(text):
    normal = normalise(text)
    assert normal.encode().decode() == normal == normalise(normal)


def test_a_pair_of_surrogates_becomes_its_character_and_a_lone_one_the_replacement():
    assert normalise("\ud83d\ude00 \ud83d!") == "😀 \ufffd!"
