"""A rerank API in the form of Jina's and Cohere's, which hosted services and local servers offer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from ragx import models
from ragx.errors import ConfigError, ModelError
from ragx.retrieval.rerankers.base import DEPTH
from ragx.retrieval.rerankers.calibration import Calibration
from ragx.types import Passage, embedded_text

KEY = "RAGX_RERANK_API_KEY"
"""The variable that holds the key."""
TIMEOUT = 10.0
"""Seconds to connect, and between two packets of the response."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ApiReranker:
    """Sends a question and passages to a URL; a fragment names the model: `https://api.jina.ai/v1/rerank#MODEL`."""

    depth = DEPTH
    calibration: Calibration | None = None
    order = 0.0

    def __init__(self, url: str) -> None:
        """The key, if any, is that of `RAGX_RERANK_API_KEY`, and only sent encrypted or to this machine.

        Raises:
            ConfigError: the URL is none, ragx is offline, or the key would be sent unencrypted.
        """
        try:
            parts = urlsplit(url)
            host, self._key = parts.hostname, os.environ.get(KEY, "")
            parts.port  # raises for a port that is none  # noqa: B018
        except ValueError:
            host = None
        if not host or parts.username is not None:
            raise ConfigError(f"rerank must be a URL such as https://host/v1/rerank, with the key in {KEY}")
        if host not in _LOOPBACK:
            if models.offline():
                raise ConfigError(f"ragx is offline: it cannot rerank with {host}")
            if self._key and parts.scheme != "https":
                raise ConfigError(f"the key in {KEY} is not sent to {host} unencrypted: use https")
        self.name = f"{host} {parts.fragment}".strip()
        self._model = parts.fragment
        self._url = urlunsplit(parts._replace(fragment=""))

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        """The relevance of each passage as the service rates it: (n,) float32.

        Raises:
            ModelError: the service does not answer in time or as expected. The message holds neither key nor response.
        """
        import httpx

        body = {"query": question, "documents": [embedded_text(passage) for passage in passages]}
        if self._model:
            body["model"] = self._model
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            response = httpx.post(self._url, json=body, headers=headers, timeout=TIMEOUT)
            if not response.is_success:
                raise ModelError(f"HTTP {response.status_code}")
            scores = np.full(len(passages), np.nan, np.float32)
            for result in response.json()["results"]:
                if not 0 <= (number := int(result["index"])) < len(passages):
                    raise ModelError("the response names a passage that was not sent")
                scores[number] = float(result["relevance_score"])
        except httpx.TimeoutException:
            raise ModelError(f"no answer within {TIMEOUT:g} seconds") from None
        except (httpx.HTTPError, ValueError, TypeError, LookupError) as error:  # its message may hold the response
            kind = "no connection" if isinstance(error, httpx.TransportError) else "an unexpected response"
            raise ModelError(f"{kind} ({type(error).__name__})") from None
        return scores
