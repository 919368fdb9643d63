"""update_index: add and delete passages, and publish the result as a new generation.

1. Kept shards are adopted unchanged; `deleted.npy` lists the passages deleted from them.
2. Added passages form new shards, merged with the last shards that are smaller, without their deleted passages. So
   there are few shards even after many small updates, and a passage moves a logarithmic number of times. Vectors move
   along, so only new passages are embedded.
3. The lexical index is adopted; new words are added and deleted passages are marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from ragx.config import IndexSettings
from ragx.index.build import check_out, embed_shards, write_shards
from ragx.index.by_id import ById, HashTable
from ragx.index.changes import Changes
from ragx.index.index import Index, Shard
from ragx.index.lexical_build import NO_ROWS, build_lexical, update_lexical
from ragx.index.lock import index_lock
from ragx.index.manifest import (
    SOURCES,
    Counts,
    EmbedderEntry,
    Manifest,
    current_generation,
    generations,
    shard_folder,
)
from ragx.index.passages import column, open_passages
from ragx.index.staging import Staging, restore_current
from ragx.types import Embedder, Passage, embedded_text

T = TypeVar("T")
MOVED_FILES = ("passages.arrow", "vectors.npy")
"""Files of a shard from which passages are moved."""
LOOKUP_BATCH = 8192
"""Passages compared with the index at a time."""


class Update(NamedTuple):
    """Result of an update."""

    manifest: Manifest
    added: int
    """New passages, including those that replace one with the same id."""
    deleted: int
    """Deleted passages, including replaced ones."""


def update_index(
    out: Path,
    embedder: Embedder | None = None,
    *,
    add: Iterable[Passage] = (),
    delete: Iterable[str] = (),
    sources: Callable[[], Iterable[bytes]] | None = None,
    create: IndexSettings | None = None,
    quiet: bool = False,
) -> Update:
    """Delete passages from the index in `out`, add others and publish the result; readers keep their generation.

    An added passage replaces the one with its id; an identical one is left unchanged. If nothing changes, including
    `sources`, nothing is published. A crash leaves the index unchanged, and the update can be repeated. Memory holds
    about 40 bytes for each passage of the index and none of its texts; new passages are kept in a temporary file.

    Args:
        out: an index folder.
        embedder: the embedder the index was built with; None if no passages are added.
        add: passages; if several have the same id, the last one counts.
        delete: passage ids, read after `add`; unknown ids are ignored.
        sources: called after that, possibly twice: the lines of `sources.jsonl`; None: no source files are recorded.
        create: settings of a new index if `out` has none; None: `out` must be an index.
        quiet: show no progress bars.

    Returns:
        The manifest of the current generation, and the numbers of changes.

    Raises:
        IndexFolderError: there is no index in `out`, it was built with another embedder, cannot be written, or another
            process is writing to it.
        CorpusError: a passage is not valid Unicode.
        ModelError: the embedder returned vectors that are not finite.
        ConfigError: the FAISS factory string of `create` is invalid.
        ValueError: there are passages to embed, but no embedder.
    """
    if create is None:
        current_generation(out)  # raise before the lock creates the folder
    else:
        check_out(out)
    with index_lock(out):
        exists = (out / "CURRENT").exists()
        if create and not exists and generations(out):
            restore_current(out)
            exists = True
        index = _empty_index(out, create, embedder) if create and not exists else Index.open(out)
        return apply_changes(out, index, embedder, add=add, delete=delete, sources=sources, quiet=quiet)


def apply_changes(
    out: Path,
    index: Index,
    embedder: Embedder | None = None,
    *,
    add: Iterable[Passage] = (),
    delete: Iterable[str] = (),
    sources: Callable[[], Iterable[bytes]] | None = None,
    settings: IndexSettings | None = None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    quiet: bool = False,
) -> Update:
    """As `update_index`, for a caller that holds the lock and opened the current generation under it.

    `settings` replace those of the manifest if anything changes; `on_progress` gets the number of embedded passages and
    the total.
    """
    if embedder is not None:
        index.check_embedder(embedder)
    added, removed = _compare(index, add, delete)
    number = len(added)
    if not (number or len(removed) or (sources is not None and not _has_sources(index.manifest, sources()))):
        return Update(index.manifest, 0, 0)
    if sources is None and SOURCES in index.manifest.files:
        sources = tuple  # the passages of any file may have changed
    deleted = np.union1d(index.deleted, removed)
    kept = _kept_shards(index.shards, number, deleted, index.manifest.settings.shard_size)
    manifest = publish_update(
        out,
        index,
        kept,
        added,
        deleted,
        embedder,
        sources=sources,
        settings=settings,
        on_progress=on_progress,
        quiet=quiet,
    )
    return Update(manifest, number, len(removed))


def _compare(index: Index, add: Iterable[Passage], delete: Iterable[str]) -> tuple[Changes, np.ndarray]:
    """New and changed passages, and the rows, ascending, of those that they replace and of passages to delete."""
    named, same = np.zeros(index.total, bool), np.zeros(index.total, bool)
    changes = Changes()
    by_id: ById | None = None
    for passages in _batches(add):
        by_id = by_id or ById(index)
        present = by_id.find({passage.id for passage in passages})
        for passage in passages:
            row, indexed = present.get(passage.id, (None, None))
            if indexed == passage:
                changes.discard(passage.id)
            else:
                changes.put(passage)
            if row is not None:
                named[row], same[row] = True, indexed == passage
    for ids in _batches(delete):
        by_id = by_id or ById(index)
        named[by_id.rows(ids)] = True
    return changes, np.flatnonzero(named & ~same)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    stream = iter(items)
    while batch := list(islice(stream, LOOKUP_BATCH)):
        yield batch


def _has_sources(manifest: Manifest, lines: Iterable[bytes]) -> bool:
    """Whether the generation's `sources.jsonl` has these lines."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return SOURCES in manifest.files and manifest.files[SOURCES].sha256 == digest.hexdigest()


def _empty_index(out: Path, settings: IndexSettings, embedder: Embedder | None) -> Index:
    if embedder is None:
        raise ValueError("a new index needs an embedder")
    manifest = Manifest(
        created="", settings=settings, embedder=EmbedderEntry.of(embedder), counts=Counts(), shards=[], files={}
    )
    return Index(out, manifest, [], None, NO_ROWS)


def publish_update(
    out: Path,
    index: Index,
    keep: int,
    added: Iterable[Passage],
    deleted: np.ndarray,
    embedder: Embedder | None,
    *,
    sources: Callable[[], Iterable[bytes]] | None = None,
    settings: IndexSettings | None = None,
    rebuild_lexical: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    quiet: bool,
) -> Manifest:
    """Publish the first `keep` shards unchanged, then the other shards' passages without `deleted` rows, then `added`.

    With `rebuild_lexical`, the lexical index contains no words of passages deleted earlier. The caller holds the lock.
    Errors as `update_index`.
    """
    manifest = index.manifest
    kept = index.shards[:keep]
    start = kept[-1].offset + len(kept[-1].vectors) if kept else 0
    index.check_files([f"{shard.folder.name}/{name}" for shard in index.shards[keep:] for name in MOVED_FILES])
    moved = np.setdiff1d(np.arange(start, index.total), deleted)
    newly_deleted = np.setdiff1d(deleted, index.deleted)
    same_text = _find_same_text(index, newly_deleted)
    deleted = deleted[deleted < start]

    def find_vector(row: int, passage: Passage) -> np.ndarray | None:
        place = row - start
        earlier = moved[place] if place < len(moved) else same_text(passage)
        return None if earlier is None else index.vector(int(earlier))

    staging = Staging(out, manifest.embedder, settings or manifest.settings)
    folders = tuple(f"{shard_folder(staging.folder, number).name}/" for number in range(len(kept)))
    staging.shards[: len(kept)] = manifest.shards[: len(kept)]
    staging.adopt([name for name in manifest.files if name.startswith(folders)])
    write_shards(staging, chain(index.passages(moved), added), first=len(kept))
    embed_shards(staging, embedder, find_vector, quiet=quiet, on_progress=on_progress)
    staging.write_deleted(deleted)
    if sources is not None:
        staging.write_sources(sources())
    else:
        staging.adopt([name for name in manifest.files if name == SOURCES])
    deleted_from_kept = newly_deleted[newly_deleted < start]
    if rebuild_lexical or not update_lexical(staging, index, start, deleted_from_kept, quiet=quiet):
        build_lexical(staging, deleted, quiet=quiet)
    counts = {
        "documents": _count_documents(staging, deleted),
        "passages": staging.total - len(deleted),
        "shards": len(staging.shards),
    }
    return staging.publish(manifest.counts.model_copy(update=counts))


def _find_same_text(index: Index, deleted: np.ndarray) -> Callable[[Passage], int | None]:
    """What finds a deleted row with the text of an added passage: the text moved, or its file was renamed."""
    checked: set[str] = set()

    @cache
    def by_text() -> HashTable:
        hashes = (hash(embedded_text(passage)) for passage in index.passages(deleted))
        return HashTable(np.fromiter(hashes, np.int64, len(deleted)), deleted)

    def find(passage: Passage) -> int | None:
        text = embedded_text(passage)
        for row in by_text().rows([hash(text)]):
            if embedded_text(index.passage(row)) == text:
                vectors = f"{index.shard_of(row).folder.name}/vectors.npy"
                if vectors not in checked:
                    index.check_files({vectors})
                    checked.add(vectors)
                return row
        return None

    return find


def _kept_shards(shards: list[Shard], added: int, deleted: np.ndarray, size: int) -> int:
    """The number of kept shards: all but the last ones that are not full and no larger than what follows them."""
    kept = list(shards)
    while kept:
        first = kept[-1].offset
        rows = len(kept[-1].vectors)
        live = rows - int(np.count_nonzero((deleted >= first) & (deleted < first + rows)))
        if live > added or live >= size:
            break
        added += live
        kept.pop()
    return len(kept)


def _count_documents(staging: Staging, deleted: np.ndarray) -> int:
    """How many documents have passages that are not deleted, by 64-bit hashes of their ids."""
    hashes = [np.empty(0, np.int64)]
    for number, (start, end) in enumerate(staging.spans()):
        documents = column(open_passages(shard_folder(staging.folder, number) / "passages.arrow"), "document")
        live = np.isin(np.arange(start, end), deleted, invert=True)
        names = documents.filter(live).unique().to_pylist()
        hashes.append(np.fromiter(map(hash, names), np.int64, len(names)))
    return len(np.unique(np.concatenate(hashes)))
