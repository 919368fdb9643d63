"""What /metrics counts, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragx.retrieval import SearchResults
from ragx.types import Hit

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("ragx_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "ragx_request_seconds", "From request to response.", ["path"], buckets=SECONDS, registry=self.registry
        )
        self.first_token = Histogram(
            "ragx_first_token_seconds", "From question to first token.", buckets=SECONDS, registry=self.registry
        )
        self.prompt_tokens = Counter("ragx_prompt_tokens", "Tokens of prompts read.", registry=self.registry)
        self.answer_tokens = Counter("ragx_answer_tokens", "Tokens decoded.", registry=self.registry)
        self.ended = Counter("ragx_answers", "Answers by how they ended.", ["finish"], registry=self.registry)
        self.partial = Counter(
            "ragx_partial_searches", "Searches that some passages were lost to.", registry=self.registry
        )

    def searched(self, hits: list[Hit]) -> None:
        """Count a search that left passages out."""
        if isinstance(hits, SearchResults) and hits.unsearched:
            self.partial.inc()

    def gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A number that is read when it is asked for."""
        Gauge(name, about, registry=self.registry).set_function(value)


class Measured:
    """An ASGI middleware that counts requests by the route they took."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; count it when its answer is sent, or nobody takes it any more."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.monotonic(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.monotonic() - begun)
