"""Prometheus metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragx.retrieval import SearchResults
from ragx.types import Answer, Hit
from ragx_apps.server.logs import log

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("ragx_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "ragx_request_seconds", "Seconds per request.", ["path"], buckets=SECONDS, registry=self.registry
        )
        self.first_token = Histogram(
            "ragx_first_token_seconds", "Seconds to the first text.", buckets=SECONDS, registry=self.registry
        )
        self.queued = Histogram(
            "ragx_queue_seconds", "Seconds a question waits for its turn.", buckets=SECONDS, registry=self.registry
        )
        self.prompt_tokens = Counter("ragx_prompt_tokens", "Prompt tokens read.", registry=self.registry)
        self.answer_tokens = Counter("ragx_answer_tokens", "Tokens decoded.", registry=self.registry)
        self.ended = Counter("ragx_answers", "Answers by finish reason.", ["finish"], registry=self.registry)
        self.partial = Counter(
            "ragx_partial_searches", "Searches that could not reach all passages.", registry=self.registry
        )

    def answered(self, answer: Answer) -> None:
        """Count an answer and its search."""
        self.searched(answer.hits)
        self.ended.labels(answer.finish).inc()
        self.prompt_tokens.inc(answer.prompt_tokens)
        self.answer_tokens.inc(answer.answer_tokens)

    def searched(self, hits: list[Hit]) -> None:
        """Count a search that could not reach all passages."""
        if isinstance(hits, SearchResults) and hits.unsearched:
            self.partial.inc()

    def total(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Add a counter that is kept elsewhere: `value` is read at each scrape."""
        self.registry.register(_Total(name, about, value))

    def gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Add a gauge that reads `value` at each scrape."""
        Gauge(name, about, registry=self.registry).set_function(value)


@dataclass(frozen=True)
class _Total(Collector):
    name: str
    about: str
    value: Callable[[], float]

    def collect(self) -> Iterable[Metric]:
        return [CounterMetricFamily(self.name, self.about, self.value())]


class MetricsMiddleware:
    """An ASGI middleware that counts and logs requests by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; count it once it is answered or its client has left."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.monotonic(), 500

        async def note_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        finally:
            path, seconds = getattr(scope.get("route"), "path", "other"), time.monotonic() - begin
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(seconds)
            log("request", method=scope["method"], path=path, status=status, seconds=round(seconds, 4))
