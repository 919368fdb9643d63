"""Text on a terminal: errors and notices on stderr, and text made safe to print."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Return `text` with every character that could control a terminal replaced by U+FFFD.

    These are C0 and C1 controls (including escape codes) except newline and tab, characters that override or isolate
    the text direction, and lone surrogates, which cannot be printed. The length does not change.
    """
    return _UNSAFE.sub("\ufffd", text)


_quiet = False


def set_quiet(quiet: bool) -> None:
    """Print no notices and no progress from now on, or print them again."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether notices and progress are not printed."""
    return _quiet


def notice(line: str) -> None:
    """Print one line for the user on stderr, unless quiet; stdout is for answers only."""
    if not _quiet:
        report_error(line)


def report_error(line: str) -> None:
    """Print one line on stderr."""
    print(plain(" ".join(line.splitlines())), file=sys.stderr, flush=True)


@contextlib.contextmanager
def waiting(message: str) -> Iterator[Callable[[str], None]]:
    """Show a status line on a terminal, unless quiet, until the block ends.

    The yielded function shows another line instead, or none if it is empty.
    """
    if _quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(plain(message))) as status:
        yield lambda line: status.update(escape(plain(line))) if line else status.stop()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' warnings and progress bars; ragx checks the loaded weights itself."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
