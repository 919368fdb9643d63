"""A model behind an API: what is sent, what comes back, and what each failure says."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import HTMLResponse, Response

from ragx.config import LoadOptions, SamplingParams
from ragx.engine.chat import ChatLoop, ChatStream
from ragx.engine.endpoint import Endpoint, ollama_url, openai_url
from ragx.errors import ConfigError, EndpointError, ModelError, RagxError
from ragx.types import Message
from tests.helpers.scripted_api import FINISHED, Api, refusal, scripted_api
from tests.helpers.waiting import eventually

KEY = "sk-a-very-secret-key"
SAID = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Why is snow white?")]
VLLM_TOO_LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 5012 tokens in the messages,"
    " Please reduce the length of the messages."
)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def api() -> Iterator[Api]:
    with scripted_api() as running:
        yield running


def stream(api: Api, *, timeout: float = 30, cancel: threading.Event | None = None, **sampling: Any) -> ChatStream:
    loop = ChatLoop(Endpoint(LoadOptions(model="openai:snow-1", base_url=api.url)), timeout)
    return loop.stream(SAID, SamplingParams(**sampling), cancel or threading.Event())


def test_messages_keep_their_roles_and_pieces_come_as_they_are_decoded(api: Api) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": 2, "total_tokens": 33}}
    api.script = ["Fresh ", "snow.", FINISHED, usage]
    answer = stream(api, max_new_tokens=40)
    assert [piece for piece in answer if piece] == ["Fresh ", "snow."]
    assert (answer.finish, answer.prompt_tokens, answer.tokens) == ("stop", 31, 2)
    assert api.requests == [
        {
            "model": "snow-1",
            "messages": [{"role": each.role, "content": each.content} for each in SAID],
            "max_tokens": 40,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]
    assert api.keys == [f"Bearer {KEY}"]


def test_sampling_settings_are_sent_by_the_names_that_servers_know(api: Api) -> None:
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "seed": 7, "repetition_penalty": 1.1}
    list(stream(api, **sampling, stop=("a", "b", "c", "d", "e")))
    sent = api.requests[0]
    assert {name: sent[name] for name in sampling} == sampling
    assert sent["repeat_penalty"] == 1.1  # llama.cpp's name
    assert sent["stop"] == ["a", "b", "c", "d"]  # OpenAI takes four; the rest is looked for here


def test_an_answer_cut_at_its_length_says_so(api: Api) -> None:
    api.script = ["Fresh", {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}]
    answer = stream(api)
    assert "".join(answer) == "Fresh"
    assert answer.finish == "length"


def test_a_stop_string_ends_the_answer_even_if_the_server_ignores_it(api: Api) -> None:
    api.script = ["Fresh sn", "ow. EN", "D more", 60.0]
    answer = stream(api, stop=("END",))
    assert "".join(answer) == "Fresh snow. "
    assert answer.finish == "stop"
    assert eventually(lambda: api.left == 1, within=5)


def test_cancelling_ends_a_silent_answer_at_once_and_closes_the_connection(api: Api) -> None:
    api.script = ["Fresh ", 60.0]
    cancel = threading.Event()
    answer = stream(api, cancel=cancel)
    assert next(answer) == "Fresh "
    threading.Timer(0.2, cancel.set).start()
    start = time.monotonic()
    assert list(answer) == []
    assert time.monotonic() - start < 1
    assert answer.finish == "cancelled"
    assert eventually(lambda: api.left == 1, within=5)


def test_a_silent_server_is_an_error_after_the_timeout(api: Api) -> None:
    api.script = ["Fresh ", 0.3, "snow", 0.3, ".", 60.0]
    answer = stream(api, timeout=0.5)
    with pytest.raises(EndpointError, match=r"silent for 0.5 s: raise --timeout"):
        list(answer)


def test_a_busy_server_is_asked_again(api: Api) -> None:
    api.refusals = [refusal(503, "loading the model"), refusal(429, "slow down")]
    for each in api.refusals:
        each.headers["retry-after-ms"] = "10"
    assert "".join(stream(api)) == "Fresh snow."
    assert len(api.requests) == 3


def test_fields_that_a_model_refuses_are_left_out_or_renamed_from_then_on(api: Api) -> None:
    api.refusals = [
        refusal(400, "Use 'max_completion_tokens' instead.", param="max_tokens", code="unsupported_parameter"),
        refusal(400, "Only the default (1) is supported.", param="temperature", code="unsupported_value"),
    ]
    endpoint = Endpoint(LoadOptions(model="openai:snow-1", base_url=api.url))
    loop = ChatLoop(endpoint, 30)
    for _ in range(2):
        assert "".join(loop.stream(SAID, SamplingParams(max_new_tokens=9), threading.Event())) == "Fresh snow."
    assert len(api.requests) == 4
    for sent in api.requests[2:]:
        assert sent["max_completion_tokens"] == 9
        assert not {"max_tokens", "temperature"} & sent.keys()


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        (refusal(401, f"Incorrect API key provided: {KEY}."), EndpointError, "refuses the key in OPENAI_API_KEY"),
        (refusal(403, "no access"), EndpointError, "refuses the key in OPENAI_API_KEY"),
        (refusal(404, "no such model"), ModelError, "has no model 'snow-1'; it has ice-2, ice-3"),
        (refusal(400, "too many", code="context_length_exceeded"), ConfigError, "lower --prompt-passages"),
        (refusal(400, VLLM_TOO_LONG, code=400), ConfigError, "lower --prompt-passages"),
        (refusal(400, "request (9 tokens) exceeds the available context size"), ConfigError, "lower --prompt-passages"),
        (refusal(400, f"a secret {KEY}\nand more"), EndpointError, "failed with status 400: a secret … and more"),
        (HTMLResponse("<h1>Welcome</h1>"), EndpointError, "is not the address of an API"),
    ],
)
def test_each_failure_is_one_line_without_the_key(
    api: Api, response: Response, kind: type[RagxError], words: str
) -> None:
    api.models = [{"id": "ice-2"}, {"id": "ice-3"}]
    api.refusals = [response]
    with pytest.raises(kind) as failure:
        list(stream(api))
    message = str(failure.value)
    assert words in message
    assert KEY not in message
    assert "\n" not in message


def test_a_failure_after_the_first_words_is_an_error(api: Api) -> None:
    api.script = ["Fresh ", {"error": {"message": "out of memory"}}]
    with pytest.raises(EndpointError, match="failed: out of memory"):
        list(stream(api))
    api.script = ["Fresh "]
    with pytest.raises(EndpointError, match="broke off its answer"):
        list(stream(api))


def test_a_wrong_key_and_a_missing_one_are_told_apart_before_any_question(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.others = {"/v1/models": refusal(401, "no")}
    options = LoadOptions(model="openai:snow-1", base_url=api.url)
    with pytest.raises(EndpointError, match="refuses the key in OPENAI_API_KEY"):
        Endpoint(options)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EndpointError, match="needs a key: set OPENAI_API_KEY"):
        Endpoint(options)
    with pytest.raises(ConfigError, match=r"api\.openai\.com/v1 needs a key: set OPENAI_API_KEY"):
        Endpoint(LoadOptions(model="openai:gpt-1"))


def test_no_server_is_an_error_before_any_question() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        for model, advice in (("openai:snow-1", "start it, or check --base-url"), ("ollama:snow", "`ollama serve`")):
            with pytest.raises(EndpointError, match=f"no server answers at {url}: .*{advice}"):
                Endpoint(LoadOptions(model=model, base_url=url))


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"pip install 'ragx\[openai\]'"):
        Endpoint(LoadOptions(model="openai:snow-1"))


@pytest.mark.parametrize(
    ("entry", "window"),
    [
        ({"max_model_len": 4096}, 4096),  # vLLM
        ({"meta": {"n_ctx": 2048, "n_ctx_train": 8192}}, 2048),  # llama.cpp
        ({"context_length": 131072}, 131072),  # OpenRouter
        ({"context_window": 8192}, 8192),  # Groq
        ({}, None),
    ],
)
def test_the_window_is_what_the_server_says(api: Api, entry: dict[str, Any], window: int | None) -> None:
    api.models = [{"id": "ice-2", "max_model_len": 1}, {"id": "snow-1", **entry}]
    assert Endpoint(LoadOptions(model="openai:snow-1", base_url=api.url)).window == window


def test_ollama_loads_the_model_to_tell_its_window(api: Api) -> None:
    running = [{"name": "ice:latest", "context_length": 1}, {"name": "snow:latest", "context_length": 4096}]
    api.others = {"/api/generate": {"done": True}, "/api/ps": {"models": running}}
    endpoint = Endpoint(LoadOptions(model="ollama:snow", base_url=api.url))
    assert endpoint.window == 4096
    assert "".join(ChatLoop(endpoint, 30).stream(SAID, SamplingParams(), threading.Event())) == "Fresh snow."
    assert api.requests[0]["model"] == "snow"
    assert KEY not in str(api.keys)  # OpenAI's key is not Ollama's
    api.others = {"/api/generate": refusal(404, "model 'ice' not found")}
    with pytest.raises(ModelError, match="run `ollama pull ice`"):
        Endpoint(LoadOptions(model="ollama:ice", base_url=api.url))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "http://localhost:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),  # noqa: S104
        ("gpu-box:8000", "http://gpu-box:8000/v1"),
        ("https://models.example/ollama/", "https://models.example/ollama/v1"),
        ("http://[::1]:11434", "http://[::1]:11434/v1"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(monkeypatch: pytest.MonkeyPatch, host: str | None, url: str) -> None:
    if host:
        monkeypatch.setenv("OLLAMA_HOST", host)
    assert ollama_url(None) == url
    assert ollama_url("http://other:1/v1") == "http://other:1/v1"


def test_offline_allows_only_this_machine(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGX_OFFLINE", "1")
    Endpoint(LoadOptions(model="openai:snow-1", base_url=api.url))
    with pytest.raises(ConfigError, match="is on the network, which --offline"):
        Endpoint(LoadOptions(model="openai:snow-1", base_url="http://192.0.2.1/v1"))


def test_an_address_holds_no_secret_and_errors_do_not_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert openai_url("http://localhost:8080/v1/") == "http://localhost:8080/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    assert openai_url(None) == "http://elsewhere/v1"
    for wrong in (
        "localhost:8080",
        "ftp://a/v1",
        "http://me:hunter2@a/v1",
        "http://a/v1?key=hunter2",
        "http://a:99999",
    ):
        with pytest.raises(ConfigError, match="--base-url must be an address") as failure:
            openai_url(wrong)
        assert "hunter2" not in str(failure.value)
