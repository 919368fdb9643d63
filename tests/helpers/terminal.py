"""A command on a terminal of its own, driven as a person types."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CHILD = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches this process
from ragx.cli.main import main
main()
"""
CTRL_C, CTRL_D = "\x03", "\x04"


@dataclass
class Terminal:
    """What is on the screen so far, and a keyboard."""

    process: subprocess.Popen[bytes]
    screen: int
    unread: str = ""

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def until(self, text: str, within: float = 60.0) -> str:
        """What appears up to and including `text`; the rest is for the next call."""
        deadline = time.monotonic() + within
        while text not in self.unread:
            ready, _, _ = select.select([self.screen], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} does not appear: {self.unread!r}"
            piece = self._read()
            assert piece, f"the command ended without {text!r}: {self.unread!r}"
            self.unread += piece
        seen, _, self.unread = self.unread.partition(text)
        return seen + text

    def ends(self, within: float = 60.0) -> int:
        """The exit code; `unread` then holds all that was left to read."""
        while piece := self._read():
            self.unread += piece
        return self.process.wait(within)

    def _read(self) -> str:
        try:
            return os.read(self.screen, 65536).decode(errors="replace").replace("\r\n", "\n")
        except OSError:  # the last process has left the terminal
            return ""


@contextmanager
def on_terminal(*words: str | Path, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """Run `ragx` with these words; it is killed at the end of the block if it still runs."""
    screen, keyboard = pty.openpty()
    command = [sys.executable, "-c", _CHILD, *map(str, words)]
    plain = {**os.environ, **(env or {}), "TERM": "dumb", "COLUMNS": "200"}
    process = subprocess.Popen(
        command, stdin=keyboard, stdout=keyboard, stderr=keyboard, start_new_session=True, env=plain
    )
    os.close(keyboard)
    try:
        yield Terminal(process, screen)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
