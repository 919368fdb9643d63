"""What an error of an API means to a user, in one line that never holds the key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Protocol

from ragx.errors import ConfigError, EndpointError, ModelError, RagxError
from ragx.util.text import first_line

LISTED = 8
"""Names of models in a message."""
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|prompt is too long|too many tokens|max_model_len", re.IGNORECASE
)


class Place(Protocol):
    """Where the error comes from."""

    url: str
    model: str
    models: list[Mapping[str, Any]]
    is_ollama: bool
    has_key: bool


def explained(error: Exception, place: Place) -> RagxError:
    """The error to raise.

    Returns:
        EndpointError: the API does not answer, refuses the key, limits requests or fails.
        ModelError: it does not have the model.
        ConfigError: the prompt is too long for the model.
    """
    import openai

    url = place.url
    match error:
        case openai.APITimeoutError():
            return EndpointError(f"{url} does not answer in time: check --base-url, or whether the server is busy")
        case openai.APIConnectionError():
            advice = (
                "start it with `ollama serve`, or set OLLAMA_HOST"
                if place.is_ollama
                else "start it, or check --base-url"
            )
            return EndpointError(f"no server answers at {url}: {advice}")
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            if place.has_key:
                return EndpointError(
                    f"{url} refuses the key in OPENAI_API_KEY, or the key does not include {place.model}"
                )
            return EndpointError(f"{url} needs a key: set OPENAI_API_KEY")
        case openai.NotFoundError():
            return _not_found(place)
        case openai.RateLimitError():
            return EndpointError(f"{url} accepts no more requests now: {_said(error)}")
        case openai.APIStatusError() if error.code == "context_length_exceeded" or _TOO_LONG.search(str(error.body)):
            return ConfigError(
                f"the prompt is too long for {place.model} at {url} ({_said(error)}):"
                " lower --prompt-passages or --max-new-tokens"
            )
        case openai.APIStatusError():
            return EndpointError(f"{url} failed with status {error.status_code}: {_said(error)}")
        case openai.APIError():
            return EndpointError(f"{url} failed: {_said(error)}")
    return EndpointError(f"{url} does not answer as OpenAI's API does ({first_line(error)}): check --base-url")


def _not_found(place: Place) -> RagxError:
    if place.is_ollama:
        return ModelError(f"Ollama at {place.url} has no model {place.model!r}: run `ollama pull {place.model}`")
    names = [str(model["id"]) for model in place.models if model.get("id")]
    if place.model in names or not names:
        return ModelError(
            f"{place.url} has no model {place.model!r} for chats, or is not the address of an API: check both"
        )
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ModelError(f"{place.url} has no model {place.model!r}; it has {', '.join(names[:LISTED])}{more}")


def _said(error: Any) -> str:
    """The API's own message, in one line without the key."""
    text = error.body.get("message") if isinstance(error.body, Mapping) else None
    line = " ".join(str(text or error.message).split())
    key = os.environ.get("OPENAI_API_KEY")
    line = line.replace(key, "…") if key else line
    return line if len(line) <= 300 else f"{line[:300]}…"
