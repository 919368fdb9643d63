"""`ragx mcp`: an index as tools for agents, over stdio (Model Context Protocol)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ragx.cli.options import CacheSize, Device, Dtype, IndexFolder, Offline, Reader
from ragx.cli.setup import open_rag
from ragx.errors import ConfigError, RagxError
from ragx.types import Citation, Hit

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from ragx.rag import RAG

T = TypeVar("T")


@dataclass
class Answered:
    """What `ask` returns."""

    answer: str
    citations: list[Citation]
    notes: list[str]


def add_to(app: typer.Typer) -> None:
    """Add the command to ragx's."""
    app.command("mcp")(mcp)


def mcp(
    index: IndexFolder = None,
    retriever: Annotated[str, typer.Option(help="dense, bm25 or hybrid.")] = "hybrid",
    model: Reader = None,
    cache_size: CacheSize = 4.0,
    device: Device = None,
    dtype: Dtype = "auto",
    offline: Offline = False,
) -> None:
    """Offer `search` and `ask` to agents over stdio (Model Context Protocol)."""
    from ragx.rag import check_search

    try:
        import mcp  # noqa: F401
    except ImportError:
        raise ConfigError("`ragx mcp` needs another package: pip install 'ragx[mcp]'") from None
    check_search("-", 1, retriever)
    rag = open_rag(index, model, retriever=retriever, cache_size=cache_size, device=device, dtype=dtype)
    create_server(rag).run("stdio")


def create_server(rag: RAG) -> MCPServer[Any]:
    """The tools `search` and `ask` over an index."""
    import anyio.to_thread
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    from ragx import __version__
    from ragx.rag import check_search

    about = "Passages of an index of documents, and answers from them with verbatim citations."
    server: MCPServer[Any] = MCPServer("ragx", version=__version__, instructions=about, log_level="WARNING")

    async def in_thread(work: Callable[[], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except RagxError as error:
            raise ToolError(str(error)) from None

    @server.tool()
    async def search(query: str, k: int = 10) -> list[Hit]:
        """Find the k passages of the index that fit a query best, best first."""

        def hits() -> list[Hit]:
            check_search(query, k, rag.method)
            return rag.retriever.search(query, k, rag.method)

        return await in_thread(hits)

    @server.tool()
    async def ask(question: str, k: int = 60) -> Answered:
        """Answer a question from the k passages of the index that fit it best, citing verbatim spans of them."""
        cancel = threading.Event()
        try:
            answer = await in_thread(partial(rag.ask, question, k=k, cancel=cancel))
        finally:
            cancel.set()  # an agent that cancels waits for nothing more
        return Answered(answer.text, answer.citations, answer.notes)

    return server
