"""Ctrl-C and SIGTERM, taken as a wish to stop at the next good moment."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ragx.errors import RagxError


class Interrupted(RagxError):
    """A signal has stopped a command, after it has saved what it had."""

    exit_code = 130


class Stop:
    """The signal that asked for a stop, if any."""

    signal: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Note the first SIGINT or SIGTERM instead of dying of it; a second one ends the process at once."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        stop.signal = signal.Signals(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
