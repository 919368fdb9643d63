"""The page's server: which files and requests it accepts, and from whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from gradio import processing_utils
from gradio.utils import get_upload_folder
from gradio_client import Client
from gradio_client.exceptions import AppError
from ragx_apps.chat.serving import check_address
from ragx_apps.chat.uploads import MAX_FILE_BYTES
from ragx_apps.queue import QuestionQueue

from ragx.errors import ConfigError
from ragx.rag import RAG
from tests.helpers.chat_page import SENTENCE, serving_page

HTTP = httpx.Client(timeout=60)
QUESTION = "How much of the sunlight does fresh snow reflect?"


def test_every_response_has_a_content_security_policy(address: str) -> None:
    for path in ("", "config", "theme.css", "gradio_api/file=x"):
        policy = HTTP.get(address + path).headers["content-security-policy"].split("; ")
        assert {"default-src 'self'", "img-src 'self' data: blob:", "object-src 'none'"} <= {*policy}
        assert not any("http" in rule or "*" in rule for rule in policy)


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=/proc/self/environ",
        "gradio_api/file/etc/passwd",
        "gradio_api//file=/etc/passwd",
        "gradio_api/%66ile=/etc/passwd",
        "gradio_api/proxy=http://127.0.0.1:9/",
        "file=/etc/passwd",
        "static/../../../../../etc/passwd",
        "static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "monitoring",
    ],
)
def test_no_local_file_is_served(address: str, path: str) -> None:
    answer = HTTP.get(address + path)
    assert answer.status_code in (400, 403, 404, 405)
    assert "root:" not in answer.text


def test_a_file_that_was_not_uploaded_cannot_be_indexed(address: str, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("The password is swordfish.")
    config = HTTP.get(address + "config").json()
    (upload,) = (each for each in config["dependencies"] if each["targets"] and each["targets"][0][1] == "upload")
    for path in (str(tmp_path / "secret.txt"), "http://127.0.0.1:9/secret.txt", "https://example.org/secret.txt"):
        sent = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "secret.txt"}
        body = {"data": [[sent]], "fn_index": upload["id"], "session_hash": "somebody"}
        assert HTTP.post(address + "gradio_api/queue/join", json=body).status_code == 200
        with HTTP.stream("GET", address + "gradio_api/queue/data?session_hash=somebody") as events:
            said = "".join(events.iter_text())
        assert '"success":false' in said
        assert "swordfish" not in said


class OtherServer(BaseHTTPRequestHandler):
    """Another server, which records requests."""

    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"The password is swordfish.")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that Gradio considers public."""
    monkeypatch.setattr(processing_utils, "PUBLIC_HOSTNAME_WHITELIST", ["127.0.0.1"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), OtherServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    OtherServer.requests.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("more", [{}, {"is_stream": True}, {"url": "http://127.0.0.1:9/a.txt"}], ids=str)
def test_no_address_that_a_visitor_sends_is_fetched(address: str, elsewhere: str, more: dict[str, object]) -> None:
    config = HTTP.get(address + "config").json()
    sent = {"path": f"{elsewhere}/secret.txt", "meta": {"_type": "gradio.FileData"}, **more}
    for place, each in enumerate(config["dependencies"]):
        if not each["backend_fn"] or not each["inputs"]:
            continue
        data = [[sent] if number == 0 else None for number, _ in enumerate(each["inputs"])]
        session = f"visitor{place}"
        body = {"data": data, "fn_index": each["id"], "session_hash": session}
        assert HTTP.post(address + "gradio_api/queue/join", json=body).status_code == 200
        with HTTP.stream("GET", f"{address}gradio_api/queue/data?session_hash={session}") as events:
            said = "".join(events.iter_text())
        assert "URLs are not fetched" in said
    history = [{"role": "user", "content": "?", **sent}]
    with pytest.raises(AppError, match="URLs are not fetched"):
        Client(address, verbose=False).predict(QUESTION, history=history, api_name="/ask")
    assert OtherServer.requests == []


@pytest.mark.parametrize("name", ["../../../evil.txt", "/etc/evil.txt", "..", "a/../../evil.txt"])
def test_an_upload_stays_in_its_folder(address: str, name: str) -> None:
    sent = HTTP.post(address + "gradio_api/upload", files={"files": (name, b"x")})
    if sent.status_code == 200:
        assert [Path(path).resolve().is_relative_to(get_upload_folder()) for path in sent.json()] == [True]
    else:
        assert sent.status_code == 400


def test_uploads_are_limited_in_size(address: str) -> None:
    large = {"files": ("large.txt", b"x" * (MAX_FILE_BYTES + 1))}
    assert HTTP.post(address + "gradio_api/upload", files=large).status_code == 413


def test_other_host_names_are_refused(address: str) -> None:
    assert HTTP.get(address, headers={"Host": "attacker.example"}).status_code == 400


def test_nothing_points_to_another_server(address: str) -> None:
    html = HTTP.get(address).text
    assert "fonts.googleapis.com" not in html
    assert "share_url" not in html or '"share_url":null' in html.replace(" ", "")
    assert HTTP.get(address + "config").json()["analytics_enabled"] is False


def test_gradio_client_asks(address: str) -> None:
    client = Client(address, verbose=False)
    job = client.submit(QUESTION, max_new_tokens=30, api_name="/ask")
    whole = job.result(timeout=60)
    assert whole["question"] == QUESTION
    assert whole["answer"].startswith(SENTENCE.strip())
    assert whole["citations"][0]["text"] == "Fresh snow reflects most of the sunlight, and ice less."
    assert sum(whole["attention_shares"]) == pytest.approx(1, abs=1e-3)
    grown = [each["answer"] for each in job.outputs()[:-1]]
    assert len(grown) > 1
    assert all(after.startswith(before) for before, after in pairwise(grown))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": "../notes0"}, "no index '../notes0'"),
        ({"index": "/etc"}, "no index '/etc'"),
        ({"index": "your files"}, "no index 'your files'"),
        ({"k": 0}, "k: must be"),
        ({"reader": "both"}, "'both' is not one of"),
        ({"history": [{"role": "pirate", "content": "ahoy"}]}, "history must hold messages"),
    ],
)
def test_a_wrong_argument_is_one_sentence(address: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(AppError, match=message) as caught:
        Client(address, verbose=False).predict(QUESTION, **options, api_name="/ask")
    assert "\n" not in str(caught.value)


def test_only_asking_is_offered_to_clients(address: str) -> None:
    offered = Client(address, verbose=False).view_api(return_format="dict", print_info=False)
    assert [*offered["named_endpoints"]] == ["/ask"]
    assert offered["unnamed_endpoints"] == {}


def test_with_a_password_nothing_is_shown_without_it(
    chat_rag: RAG, queue: QuestionQueue, chat_index: Path, tmp_path: Path
) -> None:
    with serving_page(chat_rag, queue, chat_index, tmp_path, auth=("ada", "snow")) as url:
        assert HTTP.get(url + "config").status_code == 401
        assert HTTP.post(url + "gradio_api/call/ask", json={"data": ["?"]}).status_code == 401
        assert HTTP.post(url + "gradio_api/upload", files={"files": b"x"}).status_code == 401
        assert HTTP.post(url + "login", data={"username": "ada", "password": "rain"}).status_code == 400
        assert Client(url, auth=("ada", "snow"), verbose=False).predict("?", api_name="/ask")["answer"]


def test_others_reach_the_page_only_with_a_password() -> None:
    assert check_address("127.0.0.1", None) is None
    assert check_address("0.0.0.0", "ada:snow:man") == ("ada", "snow:man")  # noqa: S104
    for host in ("0.0.0.0", "192.168.1.2", "::"):  # noqa: S104
        with pytest.raises(ConfigError, match="--auth"):
            check_address(host, None)
    for auth in ("ada", ":snow", "ada:"):
        with pytest.raises(ConfigError, match="USER:PASSWORD"):
            check_address("127.0.0.1", auth)
