"""Files and datasets as plain documents: their text and domain."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ragx.config import DatasetSource
from ragx.errors import ConfigError, CorpusError

ROWS = (".jsonl", ".jsonl.gz", ".jsonl.xz")
KINDS = (*ROWS, ".txt")


def expand(folder: str, source: str | DatasetSource) -> list[Path | DatasetSource]:
    """A source as the files it means; a folder means all files below it that can be read, in order of their names.

    Raises:
        ConfigError: nothing is there, or it is of another kind.
    """
    if isinstance(source, DatasetSource):
        return [source]
    path = Path(folder, source).expanduser()
    if path.is_dir():
        files: list[Path | DatasetSource] = [file for file in sorted(path.rglob("*")) if file.name.endswith(KINDS)]
        if not files:
            raise ConfigError(f"data.sources: {path} holds no file that ends in {', '.join(KINDS)}")
        return files
    if not path.is_file():
        raise ConfigError(f"data.sources: there is no {path}")
    if not path.name.endswith(KINDS):
        raise ConfigError(f"data.sources: {path} does not end in {', '.join(KINDS)}")
    return [path]


def documents(source: Path | DatasetSource) -> Iterator[tuple[str, str]]:
    """Text and domain of each document; those without a domain of their own get the file's or dataset's name.

    A domain is a row's `domain`, or in its `meta` the `domain` or `redpajama_set_name`.

    Raises:
        CorpusError: a line is not JSON, or has no `text`; names file and line.
    """
    if isinstance(source, DatasetSource):
        yield from _of_dataset(source)
    elif source.name.endswith(ROWS):
        for number, row in rows(source):
            yield _document(row, "text", source.name.split(".")[0], f"{source}:{number}")
    else:
        try:
            yield source.read_text(encoding="utf-8"), source.stem
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"cannot read {source}: {error}") from None


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file, compressed or not, each with the number of its line; blank lines hold none.

    Raises:
        CorpusError: the file cannot be read, or a line is not a JSON object.
    """
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise CorpusError(f"{path}:{number} is not a JSON object")
                    yield number, row
    except json.JSONDecodeError as error:
        raise CorpusError(f"{path}:{number} is not JSON: {error.msg}") from None
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read {path} after line {number}: {error}") from None


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _of_dataset(source: DatasetSource) -> Iterator[tuple[str, str]]:
    from datasets import load_dataset

    try:
        loaded = load_dataset(source.dataset, source.config, split=source.split)
    except Exception as error:  # whatever the Hub, the disk or the dataset's files make of it
        raise CorpusError(f"cannot load the dataset {source.dataset}: {str(error).partition(chr(10))[0]}") from None
    for number, row in enumerate(loaded):
        yield _document(row, source.text_column, source.dataset, f"{source.dataset}, row {number}")


def _document(row: dict[str, Any], column: str, fallback: str, where: str) -> tuple[str, str]:
    text, meta = row.get(column), row.get("meta")
    if not isinstance(text, str):
        raise CorpusError(f"{where} has no {column!r} that is a string")
    said = meta if isinstance(meta, dict) else {}
    return text, str(row.get("domain") or said.get("domain") or said.get("redpajama_set_name") or fallback)
