"""Text from documents and models cannot control the terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.util.terminal import notice, plain

ANY_TEXT = st.text(st.characters(exclude_categories=()))
BIDI = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def is_unsafe(character: str) -> bool:
    category = unicodedata.category(character)
    return character in BIDI or category == "Cs" or (category == "Cc" and character not in "\n\t")


@given(ANY_TEXT)
def test_only_unsafe_characters_are_replaced(text: str) -> None:
    assert plain(text) == "".join("\ufffd" if is_unsafe(character) else character for character in text)


@given(ANY_TEXT)
def test_plain_text_is_printable_and_unchanged(text: str) -> None:
    once = plain(text)
    once.encode("utf-8")
    assert plain(once) == once


@pytest.mark.parametrize(
    "attack", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202eabc", "\u2066x\u2069", "\x00"]
)
def test_escape_codes_and_direction_overrides_are_removed(attack: str) -> None:
    assert not any(is_unsafe(character) for character in plain(attack))


def test_a_notice_is_one_safe_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    notice("first\nsecond \x1b[31mred")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "first second \ufffd[31mred\n"
