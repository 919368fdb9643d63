"""`ragx serve`: load the models, listen, shut down gracefully."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragx.cli.options import (
    Address,
    Engine,
    IndexFolders,
    Offline,
    Watch,
    ray_option,
    server_option,
    setting,
    with_settings,
)
from ragx.cli.setup import opened_rags
from ragx.config import ModelOptions, ReaderOptions, SearchOptions
from ragx.errors import ConfigError, RagxError
from ragx.util.device import return_freed_memory
from ragx.util.terminal import notice
from ragx.util.text import first_line

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ragx_apps.server.service import Service


def add_to(app: typer.Typer) -> None:
    """Add the command to ragx's."""
    app.command("serve")(serve)


@with_settings
def serve(
    search: SearchOptions,
    models: ModelOptions,
    index: IndexFolders = None,
    host: Annotated[str, server_option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, server_option(min=0, max=65535, help="0: any free port.")] = 8000,
    token: Annotated[
        str | None,
        server_option(envvar="RAGX_TOKEN", help="The bearer token that clients must send."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        server_option(metavar="URL", help="Origin of a web page whose scripts may use the server; may be repeated."),
    ] = None,
    batch: Annotated[int, server_option(min=1, help="Answers decoded at once.")] = 8,
    queue: Annotated[int, server_option(min=0, help="Requests that may wait; further ones get 429.")] = 32,
    time_limit: Annotated[float, server_option(min=1, help="Seconds from a request to its whole answer.")] = 300,
    prompt_passages: Annotated[int, setting(ReaderOptions, "prompt_passages", min=0)] = ReaderOptions().prompt_passages,
    refuse_below: Annotated[float, setting(ReaderOptions, "refuse_below", min=0, max=1)] = ReaderOptions().refuse_below,
    append_sources: Annotated[
        bool,
        typer.Option(
            "--append-sources", help="End each answer with a list of its sources, with [1] where they support it."
        ),
    ] = False,
    log_json: Annotated[
        bool,
        server_option("--log-json", help="Log every request and answer to stderr, each as a line of JSON."),
    ] = False,
    watch: Watch = False,
    engine: Engine = "local",
    address: Address = None,
    replicas: Annotated[int, ray_option(min=1, help="Actors with the same shards; a slow one is not waited for.")] = 1,
    offline: Offline = False,
) -> None:
    """Serve an OpenAI-compatible HTTP API: /v1/chat/completions, /v1/responses, /v1/embeddings and more."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise ConfigError("`ragx serve` needs more packages: pip install 'ragx[serve]'") from None
    if token is not None and not (token and token.isascii() and token.isprintable()):
        raise ConfigError("the token must be one or more printable ASCII characters")
    from ragx.index.names import default_index
    from ragx_apps.server.protection import check_origin, is_loopback

    if token is None and not is_loopback(host):
        raise ConfigError(f"other machines can reach {host}: require a token with --token or RAGX_TOKEN")
    return_freed_memory()
    origins = [check_origin(origin) for origin in allow_origin or ()]
    folders = _by_name(index or [default_index()])
    with opened_rags([*folders.values()], models, search, engine=engine, address=address, replicas=replicas) as rags:
        from ragx.index.remote import following
        from ragx.indexing.watch import watching
        from ragx_apps.server.app import create_app
        from ragx_apps.server.logs import log_as_json
        from ragx_apps.server.metrics import Metrics
        from ragx_apps.server.service import Service

        if log_json:
            log_as_json()
        indexes = dict(zip(folders, rags, strict=True))
        service = Service(
            rags[0],
            Metrics(),
            indexes=indexes,
            batch=batch,
            waiting=queue,
            time_limit=time_limit,
            append_sources=append_sources,
        )
        follow = watching(list(folders.values()), device=models.device) if watch else nullcontext()
        try:
            app = create_app(
                service,
                models.model,
                k=search.k,
                prompt_passages=prompt_passages,
                refuse_below=refuse_below,
                token=token,
                host=host,
                origins=origins,
            )
            with follow, following(folders.values()), _reloading(partial(_reload, service, models, search)):
                listen(app, host, port, time_limit)
        finally:
            service.close()


@contextmanager
def _reloading(reload: Callable[[], None]) -> Iterator[None]:
    """Call `reload` in a thread at each SIGHUP, one at a time, where there is this signal."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    with ThreadPoolExecutor(1, "ragx-reload") as thread:
        before = signal.signal(signal.SIGHUP, lambda *_: thread.submit(reload))
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)


def _reload(service: Service, models: ModelOptions, search: SearchOptions) -> None:
    """Load the reader anew, and replace the one that answers; if that fails, it stays."""
    from ragx.reader.loading import open_readers
    from ragx.reader.reranking import open_reranker

    try:
        readers, notes = open_readers(models)
        rerankers = [
            open_reranker(
                search.rerank, models.device, rag.retriever.index.manifest.embedder.name, lambda: readers.get("cepe")
            )
            for rag in service.indexes.values()
        ]
    except Exception as error:  # whatever is wrong with the new one
        notice(f"not reloaded: {first_line(error)}")
        return
    for note in notes:
        notice(note)
    service.replace_readers(readers, rerankers)
    notice(f"{models.model} is reloaded")


def _by_name(folders: Sequence[Path]) -> dict[str, Path]:
    """Indexes by the names that clients use: those of their folders.

    Raises:
        ConfigError: two have the same name.
    """
    named: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in named:
            raise ConfigError(f"two indexes are named {name}: {named[name]} and {folder}; rename one of the folders")
        named[name] = folder
    return named


def listen(app: FastAPI, host: str, port: int, time_limit: float) -> None:
    """Serve until SIGTERM or Ctrl-C; then stop accepting requests and finish the answers in progress.

    Raises:
        RagxError: the address is in use or not available.
    """
    import uvicorn

    try:
        listener = _bind(host, port)
    except OSError as error:
        raise RagxError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port") from None
    address, bound = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    notice(f"listening on http://{shown}:{bound}/v1; Ctrl-C stops")
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again after its shutdown
    grace = int(time_limit) + 1
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=grace)
    uvicorn.Server(config).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
