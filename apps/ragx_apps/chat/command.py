"""`ragx chat`: load the models, serve the page."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Annotated

import typer

from ragx.cli.options import Offline, Rerank, SearchEffort, Watch, Where, index_option, server_option, with_settings
from ragx.cli.setup import opened_rag
from ragx.config import RERANK, ModelOptions, SearchOptions
from ragx.errors import ConfigError
from ragx.util.device import return_freed_memory
from ragx.util.settings import checked
from ragx.util.terminal import notice


def add_to(app: typer.Typer) -> None:
    """Add the command to ragx's."""
    app.command("chat")(chat)


@with_settings
def chat(
    models: ModelOptions,
    index: Annotated[
        Path | None,
        index_option(
            "Name or folder of the only index to offer. Default: RAGX_INDEX or the index named default, and all others."
        ),
    ] = None,
    rerank: Rerank = RERANK,
    effort: SearchEffort = "low",
    where: Where = None,
    host: Annotated[str, server_option(help="The address to listen on; one that others reach needs --auth.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, server_option(min=1, max=65535, help="The port.")] = 7860,
    auth: Annotated[
        str | None,
        server_option(envvar="RAGX_CHAT_AUTH", help="USER:PASSWORD that visitors must give."),
    ] = None,
    root_path: Annotated[
        str | None,
        server_option(metavar="PATH|URL", help="Where a proxy serves the page: a path, or a URL of another host name."),
    ] = None,
    feedback: Annotated[
        Path | None, server_option(metavar="FILE", help="Let visitors rate answers; ratings are appended to this file.")
    ] = None,
    watch: Watch = False,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    offline: Offline = False,
) -> None:
    """Chat with an index in the browser."""
    # read when gradio is imported; otherwise it sends usage statistics
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise ConfigError("`ragx chat` needs more packages: pip install 'ragx[chat]'") from None
    from ragx_apps.chat.feedback import check_feedback
    from ragx_apps.chat.serving import check_address, check_root_path, launch

    return_freed_memory()
    visitors = check_address(host, auth)
    root = None if root_path is None else check_root_path(root_path)
    if feedback is not None:
        check_feedback(feedback)
    from ragx.index.remote import following
    from ragx.indexing.watch import watching
    from ragx_apps.chat.indexes import Indexes
    from ragx_apps.chat.page import build_page
    from ragx_apps.queue import QuestionQueue

    search = checked(SearchOptions, {"rerank": rerank, "effort": effort, "where": where})
    with (
        opened_rag(index, models, search) as rag,
        tempfile.TemporaryDirectory(prefix="ragx-chat-") as folder,
    ):
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "uploaded")
        opened = [rag.retriever.index.folder]
        follow = watching(opened, device=models.device) if watch else contextlib.nullcontext()
        with contextlib.closing(QuestionQueue(rag)) as queue, follow, following(opened):
            blocks = build_page(Indexes(rag, index, models.model), queue, Path(folder) / "visitors", feedback)
            address = launch(blocks, host, port, visitors, root)
            notice(f"the page is at {address}; Ctrl-C stops")
            if browser:
                typer.launch(address)
            stop = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: stop.set())  # also deletes visitors' files
            try:
                stop.wait()
            finally:
                blocks.close(verbose=False)
