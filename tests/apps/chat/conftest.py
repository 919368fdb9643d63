from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

from playwright.sync_api import Browser, Page, expect, sync_playwright
from ragx_apps.queue import QuestionQueue

from ragx import cepe
from ragx.cepe.added_weights import save_reader
from ragx.config import IndexSettings
from ragx.indexing.build import build
from ragx.rag import RAG
from tests.helpers.chat_page import NOTES, SENTENCE, serving_page
from tests.helpers.tiny import activate, save_reciting_decoder


@pytest.fixture(scope="session")
def chat_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of short notes, one of them hostile."""
    notes, folder = (tmp_path_factory.mktemp(name) for name in ("chat-notes", "notes"))
    for name, text in NOTES.items():
        (notes / name).write_text(text, encoding="utf-8")
    build([str(notes)], folder, IndexSettings())
    return folder


@pytest.fixture(scope="session")
def chat_rag(chat_index: Path, tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> RAG:
    """Recites its sentence while it attends to passages."""
    folder = tmp_path_factory.mktemp("reciting")
    save_reciting_decoder(tiny_decoder, folder, SENTENCE, ends=False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    model = activate(cepe.load(str(folder), dtype="float32", device="cpu"), std=1e-4)  # without effect on the answer
    with torch.no_grad():
        for layer in model.model.layers:
            layer.cross_attn.q_proj.weight.mul_(20)  # more to some passages than to others
    reader = tmp_path_factory.mktemp("reader")
    save_reader(model, reader, decoder=str(folder))
    return RAG.from_index(chat_index, model=str(reader), dtype="float32", device="cpu", cache_size=0)


@pytest.fixture(scope="session")
def queue(chat_rag: RAG) -> Iterator[QuestionQueue]:
    """Shared by all pages."""
    with closing(QuestionQueue(chat_rag)) as opened:
        yield opened


@pytest.fixture(scope="session")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of visitors' files."""
    return tmp_path_factory.mktemp("visitors")


@pytest.fixture(scope="session")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of visitors' ratings."""
    return tmp_path_factory.mktemp("feedback") / "ratings.jsonl"


@pytest.fixture(scope="session")
def address(chat_rag: RAG, queue: QuestionQueue, chat_index: Path, uploads: Path, ratings: Path) -> Iterator[str]:
    """The page's URL."""
    with serving_page(chat_rag, queue, chat_index, uploads, feedback=ratings) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; closed after its module, as Playwright keeps an event loop running that others trip over."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        expect.set_options(timeout=20_000)
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, opened by a new visitor. A request to another server is an error."""
    context = browser.new_context(viewport={"width": 1600, "height": 900})
    context.set_default_timeout(20_000)
    opened = context.new_page()
    elsewhere: list[str] = []
    dialogs: list[str] = []
    opened.on("request", lambda request: elsewhere.append(request.url))
    opened.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    opened.goto(address)
    opened.get_by_label("Question").wait_for()
    yield opened
    assert [url for url in elsewhere if not url.startswith((address, "data:", "blob:"))] == []
    assert dialogs == []
    assert opened.title() == "ragx"
    context.close()
