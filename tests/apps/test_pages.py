"""The page of a PDF file is shown wherever a passage or a citation of it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client
from ragx_apps.chat.conversation import sources
from ragx_apps.mcp import create_server
from reportlab.pdfgen.canvas import Canvas

from ragx.rag import RAG
from tests.helpers.chat_page import SENTENCE
from tests.helpers.command import QUESTION
from tests.helpers.served import Server, serving
from tests.helpers.tiny import save_reciting_decoder

FILLER = "Hut number {} stands above the valley of {}, and its keeper writes down the weather every day."
PLACES = ("Arolla", "Zinal", "Ferret", "Trient", "Orny", "Moiry", "Tracuit", "Bertol", "Saleina")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of nine long pages, the seventh with the sentence that the decoder recites, and a short one."""
    path = tmp_path_factory.mktemp("books") / "handbook.pdf"
    canvas = Canvas(str(path))
    for number, place in enumerate(PLACES, 1):
        text = " ".join(FILLER.format(hut, place) for hut in range(number, number + 9)).split()
        if number == 7:
            text[60:60] = f"In short,{SENTENCE}".split()
        for line in range(0, len(text), 12):
            canvas.drawString(72, 760 - 4 * line / 3, " ".join(text[line : line + 12]))
        canvas.showPage()
    canvas.drawString(72, 760, "The code of store room 7 is 4142.")
    canvas.save()
    return path


@pytest.fixture(scope="module")
def decoder(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reciting")
    save_reciting_decoder(tiny_decoder, folder, SENTENCE, ends=False)
    return folder


@pytest.fixture(scope="module")
def index(book: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ragx.config import IndexSettings
    from ragx.indexing.build import build

    folder = tmp_path_factory.mktemp("pages")
    build([str(book)], folder, IndexSettings())
    return folder


@pytest.fixture(scope="module")
def rag(index: Path, decoder: Path) -> RAG:
    return RAG.from_index(index, model=str(decoder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def server(rag: RAG) -> Iterator[Server]:
    with serving(rag) as running:
        yield running


def test_search_and_ask_in_the_terminal(
    run_command: Callable[..., tuple[int, str, str]], book: Path, index: Path, decoder: Path
) -> None:
    code, out, _ = run_command("search", "store room 7", "--index", index, "--method", "bm25")
    assert code == 0
    assert f"{book}, page 10\n" in out
    code, out, _ = run_command("search", SENTENCE, "--index", index, "--method", "bm25")
    assert f"{book}, page 7\n" in out
    code, out, _ = run_command("ask", QUESTION, "--index", index, "--model", decoder, "--max-new-tokens", 12)
    assert code == 0
    assert f"{book}, page 7\n" in out


def test_the_chat_page(rag: RAG) -> None:
    assert any(source.place.endswith("handbook.pdf, page 7") for source in sources(rag.ask(QUESTION)))


def test_the_server(server: Server) -> None:
    request = {"model": "tiny", "max_tokens": 12, "messages": [{"role": "user", "content": QUESTION}]}
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=request, timeout=60).json()
    assert [citation["page"] for citation in reply["ragx"]["citations"]] == [7]


def test_tools_of_agents(rag: RAG) -> None:
    async def talk() -> None:
        async with Client(create_server(lambda: rag, lambda: rag)) as client:
            found: Any = await client.call_tool("search", {"query": SENTENCE, "k": 1})
            assert found.structured_content["result"][0]["passage"]["page"] == 7
            asked: Any = await client.call_tool("ask", {"question": QUESTION})
            assert {citation["page"] for citation in asked.structured_content["citations"]} == {7}

    anyio.run(talk)
