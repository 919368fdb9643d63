"""OpenTelemetry spans of a question's parts, if the application has imported OpenTelemetry, and INFO lines in the log.

    ragx.ask > ragx.retrieve > ragx.rerank, and ragx.encode, ragx.prefill, ragx.decode

Where they go is the application's choice: it sets a tracer provider, or a handler of the logger "ragx". Otherwise they
cost nothing.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

API = "opentelemetry.trace"
_logger = logging.getLogger("ragx")


@contextmanager
def span(name: str, **attributes: str | float) -> Iterator[None]:
    """A span around a block, inside the current one; an exception in it is recorded."""
    start = time.perf_counter()
    trace = sys.modules.get(API)
    opened = trace.get_tracer("ragx").start_as_current_span(name, attributes=attributes) if trace else nullcontext()
    with opened:
        yield
    _log(name, time.perf_counter() - start, attributes)


def record(name: str, start: float, end: float, **attributes: str | float) -> None:
    """A span from `start` to `end`, values of `time.perf_counter`, inside the current one.

    For parts of a generator, which cannot hold a span open while its consumer runs.
    """
    _log(name, end - start, attributes)
    trace = sys.modules.get(API)
    if trace is None:
        return
    zero = time.time() - time.perf_counter()
    begun, ended = (int((zero + moment) * 1e9) for moment in (start, end))
    trace.get_tracer("ragx").start_span(name, start_time=begun, attributes=attributes).end(ended)


def _log(name: str, seconds: float, attributes: Mapping[str, str | float]) -> None:
    if _logger.isEnabledFor(logging.INFO):
        shown = "".join(f", {key} {value}" for key, value in attributes.items())
        _logger.info("%s: %.3f s%s", name.removeprefix("ragx."), seconds, shown)
