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
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragx.config import IndexSettings
from ragx.index.build import check_out, embed_shards, write_shards
from ragx.index.by_id import ById
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
from ragx.index.passages import column
from ragx.index.staging import Staging, restore_current
from ragx.types import Embedder, Passage, embedded_text

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
    the new passages.

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
    added, same = _compare(index, add)
    removed = [row for row in index.find({*delete, *added}).values() if not same[row]]
    if not (added or removed or (sources is not None and not _has_sources(index.manifest, sources()))):
        return Update(index.manifest, 0, 0)
    if sources is None and SOURCES in index.manifest.files:
        sources = tuple  # the passages of any file may have changed
    deleted = np.union1d(index.deleted, np.array(removed, np.int64))
    kept = _kept_shards(index.shards, len(added), deleted, index.manifest.settings.shard_size)
    new = list(added.values())
    manifest = publish_update(
        out,
        index,
        kept,
        new,
        deleted,
        embedder,
        sources=sources,
        settings=settings,
        on_progress=on_progress,
        quiet=quiet,
    )
    return Update(manifest, len(added), len(removed))


def _compare(index: Index, passages: Iterable[Passage]) -> tuple[dict[str, Passage], np.ndarray]:
    """New and changed passages by id, and a mask (n,) of the rows of identical ones."""
    same = np.zeros(index.total, bool)
    changed: dict[str, Passage] = {}
    stream = iter(passages)
    by_id: ById | None = None
    while chunk := list(islice(stream, LOOKUP_BATCH)):
        by_id = by_id or ById(index)
        present = by_id.find({passage.id for passage in chunk})
        for passage in chunk:
            row, indexed = present.get(passage.id, (None, None))
            if indexed == passage:
                changed.pop(passage.id, None)
            else:
                changed[passage.id] = passage
            if row is not None:
                same[row] = indexed == passage
    return changed, same


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
    added: list[Passage],
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
    moved = np.setdiff1d(np.arange(start, index.total), deleted).tolist()
    rows = {passage.id: row for row, passage in zip(moved, index.passages(moved), strict=True)}
    newly_deleted = np.setdiff1d(deleted, index.deleted)
    rows |= _rows_with_same_text(index, added, newly_deleted.tolist())
    deleted = deleted[deleted < start]

    def find_vector(id: str) -> np.ndarray | None:
        return index.vector(rows[id]) if id in rows else None

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
    documents = {*_documents(kept, deleted), *(passage.document for passage in index.passages(moved))}
    documents |= {passage.document for passage in added}
    counts = {
        "documents": len(documents),
        "passages": staging.total - len(deleted),
        "shards": len(staging.shards),
    }
    return staging.publish(manifest.counts.model_copy(update=counts))


def _rows_with_same_text(index: Index, added: list[Passage], deleted: list[int]) -> dict[str, int]:
    """For added passages, by id, a deleted row with the same text: the text moved, or its file was renamed."""
    texts = {embedded_text(passage) for passage in added}
    if not texts:
        return {}
    passages = zip(deleted, index.passages(deleted), strict=True)
    rows = {text: row for row, passage in passages if (text := embedded_text(passage)) in texts}
    index.check_files({f"{index.shard_of(row).folder.name}/vectors.npy" for row in rows.values()})
    return {passage.id: rows[text] for passage in added if (text := embedded_text(passage)) in rows}


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


def _documents(shards: list[Shard], deleted: np.ndarray) -> Iterator[str]:
    for shard in shards:
        live = np.isin(np.arange(len(shard.vectors)) + shard.offset, deleted, invert=True)
        yield from column(shard.passages, "document").filter(live).unique().to_pylist()
