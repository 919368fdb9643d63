"""The fields that every index has. Those of a document's own metadata take precedence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ragx.corpus.formats import format_by_name
from ragx.index import Index
from ragx.index.passages import numbered
from ragx.types import Passage

STORED = ("document", "title", "source", "headings", "page", "position")
"""Fields as passages store them; an empty text and page 0 mean that there is none."""
DERIVED = ("path", "folder", "format")
"""Fields that follow from the names of files."""
BUILT_IN = (*STORED, *DERIVED)


def built_in_column(name: str, index: Index) -> tuple[list[Any], np.ndarray]:
    """The values of a field, and the number of each row's value, (total,); -1: it has none."""
    tables = [shard.passages for shard in index.shards]
    if name in STORED:
        values, numbers = numbered(tables, name)
        missing = [not value and name != "position" for value in values]
        return values, np.where(np.array([*missing, True])[numbers], -1, numbers)
    documents, document = numbered(tables, "document")
    sources, source = numbered(tables, "source")
    pairs, numbers = np.unique(source.astype(np.int64) * len(documents) + document, return_inverse=True)
    folders = source_folders(index)
    derived: dict[Any, int] = {}
    of_pair = []
    for pair in pairs.tolist():
        value = _derived(name, documents[pair % len(documents)], sources[pair // len(documents)], folders)
        of_pair.append(derived.setdefault(value, len(derived)) if value is not None else -1)
    return [_json(value) for value in derived], np.array(of_pair, np.int64)[numbers]


def built_in_value(name: str, passage: Passage, folders: Sequence[str]) -> Any:
    """The value of a field of one passage; None: it has none."""
    if name in STORED:
        value = getattr(passage, name)
        return value if value or name == "position" else None
    return _json(_derived(name, passage.document, passage.source, folders))


def source_folders(index: Index) -> list[str]:
    """The files and folders that an index was built from, innermost first."""
    return sorted((each for each in index.manifest.settings.sources if isinstance(each, str)), key=len, reverse=True)


def _derived(name: str, document: str, source: str, folders: Sequence[str]) -> str | tuple[str, ...] | None:
    path = _path(document, source, folders)
    if path is None or name == "path":
        return path
    if name == "folder":
        return tuple(str(folder) for folder in PurePosixPath(path).parents if folder.name) or None
    inner = document.startswith(f"{path}/")  # a file in an archive, or attached to a mail
    return tuple(dict.fromkeys(filter(None, format_by_name(PurePosixPath(document if inner else path))))) or None


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _path(document: str, source: str, folders: Sequence[str]) -> str | None:
    """The path of a document's file, relative to the folder that was indexed; None if it is not from a file.

    The id of a file's document is its path, which those of files in it continue; rows have ids of their own.
    """
    for part in reversed([*accumulate(document.split("/"), "{}/{}".format)]):
        if source == part or source.endswith(f"/{part}"):
            return part
    for folder in folders:
        if source == folder or source.startswith(f"{folder.rstrip('/')}/"):
            return source[len(folder) :].strip("/") or PurePosixPath(source).name
    return PurePosixPath(source).name if source.startswith("/") else None
