"""The server as the official client of the Model Context Protocol sees it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from ragx_apps.mcp import create_server, once

from ragx.errors import ModelError
from ragx.index import collect_garbage
from ragx.indexing.delete import delete
from ragx.rag import RAG
from ragx.retrieval import open_index
from tests.helpers.articles import BRIDGE, build_articles
from tests.helpers.articles import QUESTION as NEEDS_TWO
from tests.helpers.served import QUESTION
from tests.helpers.tiny_cross_encoders import LengthReranker


def test_a_client_is_answered_before_the_models_load() -> None:
    loaded: list[str] = []

    def load(name: str) -> RAG:
        loaded.append(name)
        raise ModelError(f"no {name}")

    async def talk() -> None:
        async with Client(create_server(lambda: load("embedder"), lambda: load("reader"))) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["search", "ask"]
            assert loaded == []
            for tool, argument, needed in (("search", "query", "embedder"), ("ask", "question", "reader")):
                missing: Any = await client.call_tool(tool, {argument: QUESTION})
                assert missing.is_error
                assert missing.content[0].text.endswith(f"no {needed}")

    anyio.run(talk)
    assert loaded == ["embedder", "reader"]


def test_a_model_is_loaded_once_and_an_error_is_not_kept() -> None:
    results = iter([ModelError("busy"), "model"])

    @once(threading.Lock())
    def load() -> str:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    with pytest.raises(ModelError):
        load()
    assert [load(), load()] == ["model", "model"]


def test_neither_torch_nor_faiss_is_imported_to_start(notes_index: Path) -> None:
    code = (
        "import sys; import ragx_apps.mcp as command; from ragx.cli import main\n"
        "command.create_server = lambda *_: type('Server', (), {'run': lambda *_: None})\n"
        f"sys.argv = ['ragx', 'mcp', '--index', {str(notes_index)!r}]\n"
        "try: main.main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'transformers', 'faiss'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.slow
def test_tools_over_stdio(notes_index: Path, talkative: Path) -> None:
    async def talk() -> None:
        command = ["-m", "ragx", "mcp", "--index", str(notes_index), "--model", str(talkative), "--method", "bm25"]
        async with Client(StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))) as client:
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == ["search", "ask"]
            found: Any = await client.call_tool("search", {"query": QUESTION, "k": 1})
            assert "90 percent" in found.structured_content["result"][0]["passage"]["text"]

    anyio.run(talk)


def test_ask_answers_with_citations_and_a_mistake_is_one_line(rag: RAG) -> None:
    async def talk() -> None:
        async with Client(create_server(lambda: rag, lambda: rag)) as client:
            answer: Any = await client.call_tool("ask", {"question": QUESTION, "k": 2})
            assert not answer.is_error
            expected = rag.ask(QUESTION, k=2)
            assert answer.structured_content["answer"] == expected.text
            assert len(answer.structured_content["citations"]) == len(expected.citations)
            wrong: Any = await client.call_tool("ask", {"question": " "})
            assert wrong.is_error
            assert wrong.content[0].text.endswith("the question is empty")

    anyio.run(talk)


def test_tools_take_filters(rag: RAG) -> None:
    async def talk() -> None:
        async with Client(create_server(lambda: rag, lambda: rag)) as client:
            arguments = {"query": "sunlight", "where": 'path == "soil.txt"'}
            result: Any = await client.call_tool("search", arguments)
            assert [hit["passage"]["document"] for hit in result.structured_content["result"]] == ["soil.txt"]
            answer: Any = await client.call_tool("ask", {"question": QUESTION, "where": "year > 2020"})
            assert answer.is_error
            assert "no field 'year'" in answer.content[0].text

    anyio.run(talk)


def test_tools_rerank(rag: RAG, notes_index: Path) -> None:
    reranked = RAG(open_index(notes_index), rag.readers, reranker=LengthReranker())

    async def talk() -> None:
        async with Client(create_server(lambda: reranked, lambda: reranked)) as client:
            result: Any = await client.call_tool("search", {"query": QUESTION, "k": 2})
            found = result.structured_content["result"]
            lengths = [len(hit["passage"]["text"]) for hit in found]
            assert [hit["rerank_score"] for hit in found] == lengths == sorted(lengths, reverse=True)

    anyio.run(talk)


def test_deleted_text_is_not_served(rag: RAG, notes_index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(notes_index, folder)
    current = RAG(open_index(folder), rag.readers)

    async def talk() -> None:
        async with Client(create_server(lambda: current, lambda: current)) as client:

            async def found() -> set[str]:
                result: Any = await client.call_tool("search", {"query": "dark soil"})
                return {hit["passage"]["document"] for hit in result.structured_content["result"]}

            assert "soil.txt" in await found()
            delete(folder, ["soil.txt"])
            collect_garbage(folder)
            assert "soil.txt" not in await found()

    anyio.run(talk)


@pytest.mark.parametrize("k", [0, "many"])
def test_a_wrong_argument_is_an_error_the_agent_can_read(rag: RAG, k: object) -> None:
    async def talk() -> None:
        async with Client(create_server(lambda: rag, lambda: rag)) as client:
            wrong: Any = await client.call_tool("search", {"query": QUESTION, "k": k})
            assert wrong.is_error

    anyio.run(talk)


def test_tools_take_an_effort(rag: RAG, tmp_path: Path) -> None:
    index = open_index(build_articles(tmp_path / "articles"), method="bm25")
    searching = RAG(index, rag.readers, method="bm25")

    async def talk() -> None:
        async with Client(create_server(lambda: searching, lambda: searching)) as client:
            for effort, is_found in ((None, False), ("medium", True)):
                arguments = {"query": NEEDS_TWO, "k": 6, "effort": effort}
                result: Any = await client.call_tool("search", arguments)
                titles = [hit["passage"]["title"] for hit in result.structured_content["result"]]
                assert (BRIDGE in titles) == is_found

    anyio.run(talk)
