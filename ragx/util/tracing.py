"""OpenTelemetry spans of a question's parts, if the application has imported OpenTelemetry; else nothing, at no cost.

    ragx.ask > ragx.retrieve > ragx.rerank, and ragx.encode, ragx.prefill, ragx.decode

Where they go is the application's choice: it sets a tracer provider.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

API = "opentelemetry.trace"


@contextmanager
def span(name: str, **attributes: str | float) -> Iterator[None]:
    """A span around a block, inside the current one; an exception in it is recorded."""
    trace = sys.modules.get(API)
    if trace is None:
        yield
        return
    with trace.get_tracer("ragx").start_as_current_span(name, attributes=attributes):
        yield


def record(name: str, start: float, end: float, **attributes: str | float) -> None:
    """A span from `start` to `end`, values of `time.perf_counter`, inside the current one.

    For parts of a generator, which cannot hold a span open while its consumer runs.
    """
    trace = sys.modules.get(API)
    if trace is None:
        return
    zero = time.time() - time.perf_counter()
    begun, ended = (int((zero + moment) * 1e9) for moment in (start, end))
    trace.get_tracer("ragx").start_span(name, start_time=begun, attributes=attributes).end(ended)
