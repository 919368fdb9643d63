"""Files and datasets as plain documents: their text and domain."""

from __future__ import annotations

import gzip
import io
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from ragx.config import DatasetSource
from ragx.errors import ConfigError, CorpusError
from ragx.util.text import first_line

ROWS = (".jsonl", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst")
KINDS = (*ROWS, ".txt")


class Source(NamedTuple):
    """A file or a dataset."""

    place: Path | DatasetSource
    domain: str
    """Of its documents that do not say theirs."""


def expand(folder: str, source: str | DatasetSource) -> list[Source]:
    """A source as the files it means; a folder means all files below it that can be read, in order of their names.

    A dataset that is a local folder comes back by its absolute path, so that it is the same one everywhere. Domains are
    the names of files, folders and datasets; a folder's own folders, such as RedPajama's, have theirs.

    Raises:
        ConfigError: nothing is there, or it is of another kind.
    """
    if isinstance(source, DatasetSource):
        # datasets itself would look in the working directory, before the Hub
        for place in (Path(folder, source.dataset).expanduser(), Path(source.dataset)):
            if place.is_dir():
                return [Source(source.model_copy(update={"dataset": str(place.resolve())}), place.absolute().name)]
        return [Source(source, source.dataset)]
    path = Path(folder, source).expanduser()
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.name.endswith(KINDS)]
        if not files:
            raise ConfigError(f"data.sources: {path} holds no file that ends in {', '.join(KINDS)}")
        return [Source(file, _folder_name(path, file)) for file in files]
    if not path.is_file():
        raise ConfigError(f"data.sources: there is no {path}")
    if not path.name.endswith(KINDS):
        raise ConfigError(f"data.sources: {path} does not end in {', '.join(KINDS)}")
    return [Source(path, path.name.split(".")[0])]


def _folder_name(folder: Path, file: Path) -> str:
    inside = file.relative_to(folder).parts[:-1]
    return inside[0] if inside else folder.absolute().name


def documents(source: Source) -> Iterator[tuple[str, str]]:
    """Text and domain of each document; those without a domain of their own get the source's.

    A domain is a row's `domain` or `red_pajama_subset`, or the `domain` or `redpajama_set_name` of its `meta`, which is
    an object or a string of JSON.

    Raises:
        CorpusError: a line is not JSON, or has no `text`; names file and line.
    """
    place, domain = source
    if isinstance(place, DatasetSource):
        yield from _of_dataset(place, domain)
    elif place.name.endswith(ROWS):
        for number, row in rows(place):
            yield _document(row, "text", domain, f"{place}:{number}")
    else:
        try:
            yield place.read_text(encoding="utf-8"), domain
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"cannot read {place}: {error}") from None


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
    if path.suffix == ".zst":
        import pyarrow

        return io.TextIOWrapper(pyarrow.input_stream(str(path), compression="zstd"), encoding="utf-8")
    return path.open(encoding="utf-8")


def _of_dataset(source: DatasetSource, domain: str) -> Iterator[tuple[str, str]]:
    from datasets import load_dataset

    try:
        loaded = load_dataset(source.dataset, source.config, split=source.split)
    except Exception as error:  # whatever the Hub, the disk or the dataset's files make of it
        raise CorpusError(f"cannot load the dataset {source.dataset}: {first_line(error)}") from None
    for number, row in enumerate(loaded):
        yield _document(row, source.text_column, domain, f"{source.dataset}, row {number}")


def _document(row: dict[str, Any], column: str, fallback: str, where: str) -> tuple[str, str]:
    text, meta = row.get(column), row.get("meta")
    if not isinstance(text, str):
        raise CorpusError(f"{where} has no {column!r} that is a string")
    if isinstance(meta, str):
        try:
            meta = json.loads(meta)
        except ValueError:
            meta = None
    said = meta if isinstance(meta, dict) else {}
    domain = row.get("domain") or row.get("red_pajama_subset") or said.get("domain") or said.get("redpajama_set_name")
    return text, str(domain or fallback)
