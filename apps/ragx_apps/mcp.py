"""`ragx mcp`: an index as tools for agents, over stdio (Model Context Protocol)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from ragx.cli.options import IndexFolder, Offline, Rerank, SearchEffort, Where, with_settings
from ragx.cli.setup import open_search
from ragx.config import RERANK, ModelOptions, SearchOptions
from ragx.errors import ConfigError, RagxError
from ragx.types import Citation, Effort, Hit, ReaderName, SearchMethod
from ragx.util.settings import checked
from ragx.util.terminal import notice

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from ragx.rag import RAG
    from ragx.reader.base import Reader
    from ragx.retrieval import CurrentIndex
    from ragx.retrieval.rerankers import Reranker

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
    rerank: Rerank = RERANK,
    effort: SearchEffort = "low",
    where: Where = None,
    offline: Offline = False,
) -> None:
    """Offer `search` and `ask` to agents over stdio (Model Context Protocol); models load when a tool needs them."""
    try:
        import mcp  # noqa: F401
    except ImportError:
        raise ConfigError("`ragx mcp` needs one more package: pip install 'ragx[mcp]'") from None
    from ragx.index import read_manifest
    from ragx.index.names import index_folder
    from ragx.index.remote import following

    checked(SearchOptions, {"method": method, "rerank": rerank, "effort": effort, "where": where})
    folder = index_folder(index)
    read_manifest(folder)  # report a bad index now
    with ExitStack() as stack, following([folder]):
        loading = threading.RLock()

        @once(loading)
        def current() -> CurrentIndex:
            return open_search(folder, models.device, models.dtype, method=method, engine="local")

        @once(loading)
        def readers() -> tuple[dict[ReaderName, Reader], list[str]]:
            from ragx.reader.loading import open_readers

            loaded, notes = open_readers(models)
            for note in notes:
                notice(note)
            return loaded, notes

        @once(loading)
        def reranker() -> Reranker | None:
            from ragx.reader.reranking import open_reranker

            embedder = current().retriever.index.manifest.embedder.name
            return open_reranker(rerank, models.device, embedder, lambda: readers()[0].get("cepe"))

        @once(loading)
        def answering() -> RAG:
            from ragx.rag import RAG

            loaded, notes = readers()
            rag = RAG(current(), loaded, method=method, reranker=reranker(), where=where, effort=effort, notes=notes)
            return stack.enter_context(rag)

        def searching() -> RAG:
            from ragx.rag import RAG

            if effort == "high":
                return answering()  # the model splits questions
            return RAG(current(), {}, effort=effort, method=method, reranker=reranker(), where=where)

        create_server(searching, answering).run("stdio")


def once(loading: AbstractContextManager[object]) -> Callable[[Callable[[], T]], Callable[[], T]]:
    """Make a function keep its value, but no error; a second call waits for the first."""

    def keep(load: Callable[[], T]) -> Callable[[], T]:
        kept = cache(load)

        def get() -> T:
            with loading:
                return kept()

        return get

    return keep


def create_server(searching: Callable[[], RAG], answering: Callable[[], RAG]) -> MCPServer[Any]:
    """The tools `search` and `ask`; each opens what it needs when it is first called.

    Clients give up on a server that takes more than a few seconds to answer `initialize`.
    """
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
    async def search(
        query: str, k: int = 10, where: str | None = None, effort: Literal["low", "medium"] | None = None
    ) -> list[Hit]:
        """Find the k passages of the index that match a query best, best first.

        `where` restricts the search to passages whose fields pass, as in: year >= 2020 and folder == "contracts".
        Comparisons, `in`, `like` (globs), `and`, `or`, `not`; texts in quotes, dates as 2024-01-31. A wrong field is
        answered with the fields there are. `effort` "medium" finds more for a query that needs several passages.
        """
        return await in_thread(lambda: searching().retrieve(query, k=k, where=where, effort=effort))

    @server.tool()
    async def ask(question: str, k: int = 60, where: str | None = None, effort: Effort | None = None) -> AskResult:
        """Answer a question from the k best passages of the index, citing verbatim spans; `where` as for `search`.

        `effort` "medium" or "high" finds more for a question that needs several passages; "high" takes longest.
        """
        cancel = threading.Event()
        try:
            answer = await in_thread(lambda: answering().ask(question, k=k, where=where, effort=effort, cancel=cancel))
        finally:
            cancel.set()  # also when the agent cancels the call
        return AskResult(answer.text, answer.citations, answer.notes)

    return server
