"""Clean up text and error messages before storing or printing them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if it has no message."""
    return str(error).strip().partition("\n")[0].rstrip() or type(error).__name__


def counted(number: int, noun: str) -> str:
    """Such as "1 passage" or "2,000 passages"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """For messages about an unknown word: "; did you mean …?" with the known word most like it, or nothing."""
    closest = get_close_matches(word, [*known], n=1)
    return f"; did you mean {closest[0]}?" if closest else ""


def gib(size: int) -> str:
    """Such as "1.5 GiB"."""
    return f"{size / 2**30:.1f} GiB"


def without_surrogates(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot encode, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # via UTF-16, so that a surrogate pair becomes its character
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
