"""SIGINT (Ctrl-C) and SIGTERM as requests to stop when the work so far can be saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether a signal has requested a stop."""

    requested = False


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Record the first SIGINT or SIGTERM instead of ending the process; a second one ends it at once."""
    stop = Stop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.requested = True
        restore()

    for number in handlers:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
