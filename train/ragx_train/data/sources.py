"""Files and datasets as documents: their text and domain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ragx.config import DatasetSource
from ragx.errors import ConfigError, CorpusError
from ragx.util.compressed import COMPRESSED
from ragx.util.jsonlines import load_objects
from ragx.util.text import first_line

ROWS = (".jsonl", *(f".jsonl{suffix}" for suffix in COMPRESSED))
READABLE = (*ROWS, ".txt")
TOKENS = "tokens.bin"
"""The file that makes a folder one of tokenised documents; see documents.py."""


class Source(NamedTuple):
    """A file or a dataset."""

    place: Path | DatasetSource
    domain: str
    """Domain of its documents that do not name their own."""


def expand(folder: str, source: str | DatasetSource) -> list[Source]:
    """The files of a source: of a folder, every readable file below it, sorted by name, or itself if it has tokens.

    A dataset in a local folder is returned with its absolute path, so that its identity does not depend on the working
    directory. Domains are the names of files, folders and datasets; subfolders, such as RedPajama's, have their own.

    Raises:
        ConfigError: the source does not exist or is not readable.
    """
    if isinstance(source, DatasetSource):
        # datasets itself would look in the working directory, before the Hub
        for place in (Path(folder, source.dataset).expanduser(), Path(source.dataset)):
            if place.is_dir():
                return [Source(source.model_copy(update={"dataset": str(place.resolve())}), place.absolute().name)]
        return [Source(source, source.dataset)]
    path = Path(folder, source).expanduser()
    if (path / TOKENS).is_file():
        return [Source(path, path.name)]
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.name.endswith(READABLE)]
        if not files:
            raise ConfigError(f"data.sources: {path} has no file with a name ending in {', '.join(READABLE)}")
        return [Source(file, _folder_name(path, file)) for file in files]
    if not path.is_file():
        raise ConfigError(f"data.sources: {path} does not exist")
    if not path.name.endswith(READABLE):
        raise ConfigError(f"data.sources: {path} does not end in {', '.join(READABLE)}")
    return [Source(path, path.name.split(".")[0])]


def _folder_name(folder: Path, file: Path) -> str:
    parents = file.relative_to(folder).parts[:-1]
    return parents[0] if parents else folder.absolute().name


def documents(source: Source) -> Iterator[tuple[str, str]]:
    """The text and domain of each document; the domain defaults to the source's.

    A domain is a row's `domain` or `red_pajama_subset`, or the `domain` or `redpajama_set_name` of its `meta`, an
    object or its JSON.

    Raises:
        CorpusError: a line is not JSON or has no `text`; names file and line.
    """
    place, domain = source
    if isinstance(place, DatasetSource):
        yield from _dataset_documents(place, domain)
    elif place.name.endswith(ROWS):
        for where, row in load_objects(place):
            yield _document(row, "text", domain, where)
    else:
        try:
            yield place.read_text(encoding="utf-8"), domain
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"cannot read {place}: {error}") from None


def _dataset_documents(source: DatasetSource, domain: str) -> Iterator[tuple[str, str]]:
    from datasets import load_dataset

    try:
        rows = load_dataset(source.dataset, source.config, split=source.split)
    except Exception as error:  # the Hub, the disk and the files can fail in many ways
        raise CorpusError(f"cannot load the dataset {source.dataset}: {first_line(error)}") from None
    for number, row in enumerate(rows):
        yield _document(row, source.text_column, domain, f"{source.dataset}, row {number}")


def _document(row: dict[str, Any], column: str, default_domain: str, where: str) -> tuple[str, str]:
    text, meta = row.get(column), row.get("meta")
    if not isinstance(text, str):
        raise CorpusError(f"{where} has no text in {column!r}")
    if isinstance(meta, str):
        try:
            meta = json.loads(meta)
        except ValueError:
            meta = None
    if not isinstance(meta, dict):
        meta = {}
    domain = row.get("domain") or row.get("red_pajama_subset") or meta.get("domain") or meta.get("redpajama_set_name")
    return text, str(domain or default_domain)
