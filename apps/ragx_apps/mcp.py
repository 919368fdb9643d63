"""`ragx mcp`: an index as tools for agents, over stdio (Model Context Protocol)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ragx.cli.options import IndexFolder, Offline, with_settings
from ragx.cli.setup import opened_rag
from ragx.config import ModelOptions
from ragx.errors import ConfigError, RagxError
from ragx.types import Citation, Hit, SearchMethod

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from ragx.rag import RAG

T = TypeVar("T")


@dataclass
class AskResult:
    """The result of `ask`."""

    answer: str
    citations: list[Citation]
    notes: list[str]


def add_to(app: typer.Typer) -> None:
    """Add the command to ragx's."""
    app.command("mcp")(mcp)


@with_settings
def mcp(
    models: ModelOptions,
    index: IndexFolder = None,
    method: Annotated[SearchMethod, typer.Option(help="dense, bm25, or hybrid: both, fused.")] = "hybrid",
    offline: Offline = False,
) -> None:
    """Offer `search` and `ask` to agents over stdio (Model Context Protocol)."""
    try:
        import mcp  # noqa: F401
    except ImportError:
        raise ConfigError("`ragx mcp` needs one more package: pip install 'ragx[mcp]'") from None
    with opened_rag(index, models, method=method) as rag:
        create_server(rag).run("stdio")


def create_server(rag: RAG) -> MCPServer[Any]:
    """The tools `search` and `ask` over an index."""
    import anyio.to_thread
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    from ragx import __version__

    about = "Passages of an index of documents, and answers from them with verbatim citations."
    server: MCPServer[Any] = MCPServer("ragx", version=__version__, instructions=about, log_level="WARNING")

    async def in_thread(work: Callable[[], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except RagxError as error:
            raise ToolError(str(error)) from None

    @server.tool()
    async def search(query: str, k: int = 10) -> list[Hit]:
        """Find the k passages of the index that match a query best, best first."""
        return await in_thread(partial(rag.retrieve, query, k=k))

    @server.tool()
    async def ask(question: str, k: int = 60) -> AskResult:
        """Answer a question from the k best passages of the index, citing verbatim spans of them."""
        cancel = threading.Event()
        try:
            answer = await in_thread(partial(rag.ask, question, k=k, cancel=cancel))
        finally:
            cancel.set()  # also when the agent cancels the call
        return AskResult(answer.text, answer.citations, answer.notes)

    return server
