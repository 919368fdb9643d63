"""Write the shards of the lexical index of a generation that is being built."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from math import ceil
from typing import Any

import numpy as np

from ragx.errors import IndexFolderError
from ragx.index.index import Index
from ragx.index.lexical import lexical_shard_folder
from ragx.index.lexical_shard import META, LexicalError, write_lexical_shard
from ragx.index.manifest import LEXICAL, lexical_files, shard_folder
from ragx.index.passages import all_passages, open_passages
from ragx.index.staging import Staging
from ragx.types import embedded_text
from ragx.util.device import cpu_cores
from ragx.util.files import writing
from ragx.util.progress import progress

NO_ROWS: np.ndarray = np.empty(0, np.int64)
MAX_THREADS = 8
"""tantivy needs 15 MB of `HEAP` for each."""
PASSAGES_PER_THREAD = 50_000
"""Another thread writes for each of these; with fewer, its extra segment costs more than it saves."""


def build_lexical(staging: Staging, deleted: np.ndarray = NO_ROWS, *, quiet: bool = False) -> None:
    """Build the lexical index of all passages, without `deleted` rows.

    Raises:
        IndexFolderError: it cannot be written.
    """
    staging.forget(f"{LEXICAL}/")
    lexical = staging.folder / LEXICAL
    with writing(lexical):
        if lexical.is_dir():
            shutil.rmtree(lexical)
    with _progress(staging.total, quiet) as bar:
        for number, rows in enumerate(_shards(staging)):
            folder = lexical_shard_folder(lexical, number)
            try:
                names = write_lexical_shard(
                    folder,
                    staging.settings.language,
                    _documents(staging, rows, rows.start, deleted, bar),
                    threads=_threads(len(rows)),
                )
            except LexicalError as error:
                raise IndexFolderError(f"cannot write {folder}: {error}") from error
            staging.update_folder(f"{LEXICAL}/{folder.name}", names)


def update_lexical(staging: Staging, index: Index, start: int, deleted: np.ndarray, *, quiet: bool) -> bool:
    """Adopt the lexical index, delete `deleted` rows and those from `start`, and add the passages from there.

    Shards without a change are only adopted.

    Returns:
        False if it is damaged or there is none yet: it must be built.
    """
    files = lexical_files(index.manifest)
    if not files:
        return False
    staging.adopt(files)
    with _progress(staging.total - start, quiet) as bar:
        shards = _shards(staging)
        for number in range(max(len(shards), len(index.lexical.shards))):
            folder = lexical_shard_folder(staging.folder / LEXICAL, number)
            name = f"{LEXICAL}/{folder.name}"
            if number >= len(shards):
                staging.forget(f"{name}/")
                shutil.rmtree(folder, ignore_errors=True)
                continue
            rows, earlier = shards[number], index.lexical.rows(number)
            gone = deleted[(deleted >= rows.start) & (deleted < rows.stop)] - rows.start
            is_new = number >= len(index.lexical.shards)
            if not is_new and not len(gone) and max(rows.stop, min(earlier.stop, index.total)) <= start:
                continue
            first = max(rows.start, start)
            staging.forget(f"{name}/{META}")
            try:
                names = write_lexical_shard(
                    folder,
                    staging.settings.language,
                    _documents(staging, rows, first, NO_ROWS, bar),
                    first=None if is_new else first - rows.start,
                    deleted=gone.tolist(),
                    threads=_threads(rows.stop - first),
                )
                # merged segments have new checksums, which must not hide damage to the old ones
                kept = {f"{name}/{file}" for file in names}
                index.check_files({file for file in files if file.startswith(f"{name}/")} - kept)
            except (LexicalError, IndexFolderError):
                return False
            staging.update_folder(name, names)
    return True


def _shards(staging: Staging) -> list[range]:
    """The rows of each lexical shard."""
    size = staging.settings.lexical_shard_size
    return [
        range(number * size, min(staging.total, (number + 1) * size)) for number in range(ceil(staging.total / size))
    ]


def _threads(passages: int) -> int:
    return max(1, min(MAX_THREADS, cpu_cores(), passages // PASSAGES_PER_THREAD))


def _progress(total: int, quiet: bool) -> Any:
    return progress(total=total, desc="indexing words", unit=" passages", quiet=quiet)


def _documents(staging: Staging, rows: range, first: int, deleted: np.ndarray, bar: Any) -> Iterator[tuple[int, str]]:
    """Rows in a lexical shard and texts of its passages from row `first` of the index, without `deleted` rows."""
    without = set(deleted.tolist())
    for number, (start, end) in enumerate(staging.spans()):
        if start < rows.stop and end > first:
            table = open_passages(shard_folder(staging.folder, number) / "passages.arrow")
            begin = max(start, first)
            for row, passage in enumerate(all_passages(table.slice(begin - start, rows.stop - begin)), start=begin):
                bar.update()
                if row not in without:
                    yield row - rows.start, embedded_text(passage)
