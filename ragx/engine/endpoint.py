"""A chat model behind an OpenAI-compatible API: hosted, vLLM, llama.cpp's server, LM Studio, Ollama, `ragx serve`.

Names, keys and limits of an API are its own; what they do not tell is left out of requests or estimated.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ragx import models
from ragx.config import NO_LIMIT, REMOTE, LoadOptions, SamplingParams
from ragx.engine.chat import ChatEnd
from ragx.engine.endpoint_errors import explained
from ragx.errors import ConfigError, EndpointError
from ragx.types import Message

if TYPE_CHECKING:
    import openai

OPENAI, OLLAMA = "https://api.openai.com/v1", "http://localhost:11434"
NO_KEY = "none"
"""Sent where no key is set: the client requires one, and servers without keys ignore it."""
CONNECT_SECONDS, PROBE_SECONDS = 5.0, 15.0
"""Time limits on connecting, and on what is asked before the first question."""
OPTIONAL = ("temperature", "top_p", "seed", "stop", "stream_options", "max_tokens")
"""Fields that some APIs refuse; then they are left out."""
WINDOWS = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")
"""What APIs call a model's window in their list of models: vLLM, OpenRouter and Together, Groq, Mistral, llama.cpp."""


class Endpoint:
    """A model behind an API."""

    def __init__(self, options: LoadOptions) -> None:
        """Check that the API answers, and ask it for the model's window.

        Raises:
            ConfigError: the address or the key is missing or wrong, or openai is not installed.
            EndpointError: the API does not answer or refuses the key.
            ModelError: Ollama does not have the model.
        """
        try:
            import openai
        except ImportError:
            raise ConfigError("models behind an API need one more package: pip install 'ragx[openai]'") from None
        prefix, self.model = _split(options.model)
        self.is_ollama = prefix == "ollama:"
        self.url = ollama_url(options.base_url) if self.is_ollama else openai_url(options.base_url)
        if models.offline() and not is_local(self.url):
            raise ConfigError(f"{self.url} is on the network, which --offline and RAGX_OFFLINE rule out")
        key = None if self.is_ollama else os.environ.get("OPENAI_API_KEY")
        if self.url == OPENAI and not key:
            raise ConfigError(f"{OPENAI} needs a key: set OPENAI_API_KEY, or --base-url for another server")
        self.has_key = bool(key)
        self.name = f"{self.model} at {self.url}"
        self._refused: set[str] = set()
        timeout = openai.Timeout(None, connect=CONNECT_SECONDS)  # silence is limited by the loop that streams
        self._client = openai.AsyncOpenAI(api_key=key or NO_KEY, base_url=self.url, timeout=timeout)
        probing = openai.Timeout(PROBE_SECONDS, connect=CONNECT_SECONDS)
        with openai.OpenAI(api_key=key or NO_KEY, base_url=self.url, timeout=probing, max_retries=1) as client:
            self.models = self._list(client)
            self.window = (
                self._ollama_window(client, options.timeout) if self.is_ollama else _window(self.models, self.model)
            )

    async def stream(
        self, messages: Sequence[Message], sampling: SamplingParams
    ) -> AsyncGenerator[str | ChatEnd, None]:
        """Pieces of the answer, then how it ended.

        Raises:
            EndpointError, ModelError, ConfigError: as `explained`.
        """
        import openai

        finish, usage = None, None
        try:
            async with await self._request(messages, sampling) as chunks:
                async for chunk in chunks:
                    usage = chunk.usage or usage
                    for choice in chunk.choices:
                        finish = choice.finish_reason or finish
                        yield choice.delta.content or ""
        except (openai.OpenAIError, ValueError) as error:  # ValueError: what is sent is not JSON
            raise explained(error, self) from None
        if finish is None:
            raise EndpointError(f"{self.url} broke off its answer, or is not the address of an API: check --base-url")
        yield ChatEnd(
            "length" if finish == "length" else "stop",
            usage and usage.prompt_tokens,
            usage and usage.completion_tokens,
        )

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _request(self, messages: Sequence[Message], sampling: SamplingParams) -> openai.AsyncStream[Any]:
        """Begin an answer; fields that the API refuses are left out from then on."""
        import openai

        while True:
            fields = {name: value for name, value in request_fields(sampling).items() if name not in self._refused}
            if "max_tokens" in self._refused and sampling.max_new_tokens < NO_LIMIT:
                fields["max_completion_tokens"] = sampling.max_new_tokens  # its newer name
            extra = {name: fields.pop(name) for name in EXTRA if name in fields}
            said: Any = [{"role": message.role, "content": message.content} for message in messages]
            try:
                chunks: openai.AsyncStream[Any] = await self._client.chat.completions.create(
                    model=self.model, messages=said, stream=True, extra_body=extra, **fields
                )
                return chunks
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = next((name for name in OPTIONAL if name in fields and _names(error, name)), None)
                if refused is None:
                    raise
                self._refused.add(refused)

    def _list(self, client: openai.OpenAI) -> list[Mapping[str, Any]]:
        """The API's list of models; empty if it has none."""
        import openai

        try:
            return [model.model_dump() for model in client.models.list().data or []]
        except (openai.APIConnectionError, openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise explained(error, self) from None
        except (openai.OpenAIError, ValueError):  # not every API lists its models
            return []

    def _ollama_window(self, client: openai.OpenAI, timeout: float) -> int | None:
        """Ollama cuts longer prompts without a word; only a loaded model tells its window."""
        import openai

        root = self.url.removesuffix("/v1")
        try:
            client.post(
                f"{root}/api/generate", cast_to=object, body={"model": self.model}, options={"timeout": timeout}
            )
            loaded: Any = client.get(f"{root}/api/ps", cast_to=object)
            found = [
                each for each in loaded["models"] if self.model in (each["name"], each["name"].removesuffix(":latest"))
            ]
            return int(found[0]["context_length"])
        except (openai.APIConnectionError, openai.NotFoundError) as error:
            raise explained(error, self) from None
        except (openai.OpenAIError, ValueError, LookupError, TypeError):  # an older version
            return None


EXTRA = ("top_k", "min_p", "repetition_penalty", "repeat_penalty")
"""Fields beyond OpenAI's API that vLLM, llama.cpp and others know."""


def request_fields(sampling: SamplingParams) -> dict[str, Any]:
    """Sampling parameters as fields of a request; those that change nothing are left out."""
    greedy = sampling.is_greedy
    penalty = None if sampling.repetition_penalty == 1 else sampling.repetition_penalty
    fields = {
        "max_tokens": sampling.max_new_tokens if sampling.max_new_tokens < NO_LIMIT else None,
        "temperature": 0 if greedy else sampling.temperature,
        "top_p": None if greedy or sampling.top_p == 1 else sampling.top_p,
        "top_k": None if greedy else sampling.top_k or None,
        "min_p": None if greedy else sampling.min_p or None,
        "repetition_penalty": penalty,
        "repeat_penalty": penalty,  # llama.cpp's name
        "seed": sampling.seed,
        "stop": list(sampling.stop[:4]) or None,  # OpenAI's limit; all of them are looked for here too
        "stream_options": {"include_usage": True},
    }
    return {name: value for name, value in fields.items() if value is not None}


def openai_url(base_url: str | None) -> str:
    """The address of an OpenAI-compatible API: `base_url`, OPENAI_BASE_URL, or OpenAI's own.

    Raises:
        ConfigError: it is no address, or has a password in it.
    """
    if base_url is not None:
        return _checked("--base-url", base_url)
    return _checked("OPENAI_BASE_URL", os.environ.get("OPENAI_BASE_URL") or OPENAI)


def ollama_url(base_url: str | None) -> str:
    """The address of Ollama's OpenAI-compatible API: of `base_url`, OLLAMA_HOST, or this machine.

    Raises:
        ConfigError: it is no address, or has a password in it.
    """
    host = base_url or os.environ.get("OLLAMA_HOST", "").strip() or OLLAMA
    has_scheme = "://" in host
    url = _checked("--base-url" if base_url else "OLLAMA_HOST", host if has_scheme else f"http://{host}")
    parts = urlsplit(url)
    address = "127.0.0.1" if parts.hostname == "0.0.0.0" else parts.netloc.removesuffix(f":{parts.port}")  # noqa: S104  # nosec B104
    port = parts.port or (None if has_scheme else 11434)
    return f"{parts.scheme}://{address}{f':{port}' if port else ''}{parts.path.removesuffix('/v1')}/v1"


def is_local(url: str) -> bool:
    """Whether an address is of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(setting: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{setting} must be an address such as http://localhost:8080/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(f"{setting} must be an address alone: a key belongs in OPENAI_API_KEY")
    return url.rstrip("/")


def _split(name: str) -> tuple[str, str]:
    prefix = next(prefix for prefix in REMOTE if name.startswith(prefix))
    model = name.removeprefix(prefix)
    if not model.strip():
        raise ConfigError(f"model: {name!r} names no model; write {prefix}NAME")
    return prefix, model


def _window(listed: Sequence[Mapping[str, Any]], name: str) -> int | None:
    found = [model for model in listed if model.get("id") == name] or (listed if len(listed) == 1 else [])
    for values in [each for model in found for each in (model, model.get("meta"))]:
        for key in WINDOWS:
            window = values.get(key) if isinstance(values, Mapping) else None
            if isinstance(window, int) and window > 0:
                return window
    return None


def _names(error: openai.APIStatusError, field: str) -> bool:
    """Whether an error is about a field of the request."""
    return error.param == field or (field == "stream_options" and field in str(error.body))
