"""Text on a terminal: notices on stderr, and text made safe to print."""

from __future__ import annotations

import re
import sys

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Return `text` with every character that could control a terminal replaced by U+FFFD.

    These are the C0 and C1 controls (escape codes among them) except newline and tab, the characters that override or
    isolate the reading direction, and lone surrogates, which cannot be printed. The length does not change.
    """
    return _UNSAFE.sub("\ufffd", text)


def notice(line: str) -> None:
    """Print one line for the user on stderr; stdout is for answers alone."""
    print(plain(" ".join(line.splitlines())), file=sys.stderr, flush=True)
