"""Find the folder of an index by its name or path."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ragx.index.manifest import is_index_folder
from ragx.util.folders import data_home

_NAME = re.compile(r"\w[\w.-]*")


def is_url(index: str) -> bool:
    """Whether an index is named by a URL such as `s3://bucket/papers`."""
    return re.match(r"[a-z][a-z0-9+.-]*://", index) is not None


def indexes_home() -> Path:
    """The folder that contains the named indexes."""
    return data_home() / "indexes"


def default_index() -> Path:
    """The index used when none is given: `RAGX_INDEX`, a name or path, or else the index named "default"."""
    return index_folder(os.environ.get("RAGX_INDEX") or "default")


def index_folder(index: str | Path | None) -> Path:
    """The folder of an index.

    Args:
        index: a name such as "papers", unless there is an index at that path; a path such as "./papers"; or None for
            `default_index()`. A `Path` is always a path. A URL (`s3://bucket/papers`) is copied: `remote.fetch_index`.

    Raises:
        IndexFolderError: as `fetch_index`.
    """
    if index is None:
        return default_index()
    if isinstance(index, str) and is_url(index):
        from ragx.index.remote import fetch_index

        return fetch_index(index)
    path = Path(index).expanduser()
    if isinstance(index, str) and _NAME.fullmatch(index) and not is_index_folder(path):
        return indexes_home() / index
    return path


def named_indexes() -> dict[str, Path]:
    """The folders of the named indexes, sorted by name."""
    return {current.parent.name: current.parent for current in sorted(indexes_home().glob("*/CURRENT"))}
