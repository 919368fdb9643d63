"""`ragx watch`: an index that follows its folders."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ragx.cli.options import Device, Dtype, IndexFolder, Offline


def watch(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders. Default: the sources of the index.")
    ] = None,
    index: IndexFolder = None,
    device: Device = None,
    dtype: Dtype = "auto",
    offline: Offline = False,
) -> None:
    """Keep an index up to date with its folders, until Ctrl-C; a new index is built first."""
    from ragx.index.names import default_index
    from ragx.indexing.watch import watch as follow
    from ragx.util.terminal import notice

    def log(line: str) -> None:
        notice(f"{time.strftime('%H:%M:%S')} {line}")

    try:
        follow(index or default_index(), paths or [], log=log, device=device, dtype=None if dtype == "auto" else dtype)
    except KeyboardInterrupt:
        log("stopped")
