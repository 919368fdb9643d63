"""update_index: add passages to an index and delete some, as one new generation.

1. Shards that stay are taken over as they are; passages deleted from them are listed in `deleted.npy`.
2. What is added becomes new shards, together with the last shards that are smaller than it, without what was deleted
   from those. So there are few shards however often a little is added, and a passage moves a logarithmic number of
   times. Vectors move along: only new passages are embedded.
3. The lexical index is taken over too: the words of new shards are added, deleted passages are marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragx.config import IndexSettings
from ragx.errors import IndexFolderError
from ragx.index.build import NONE, check_out, documents, embed_shards, index_words, write_shards
from ragx.index.by_id import ById
from ragx.index.index import Index, Shard, shard_folder
from ragx.index.lexical import META, LexicalError, write_lexical
from ragx.index.manifest import (
    LEXICAL,
    SOURCES,
    Counts,
    EmbedderEntry,
    Manifest,
    current_generation,
    generations,
    lexical_files,
)
from ragx.index.passages import column
from ragx.index.staging import Staging, restore_current
from ragx.types import Embedder, Passage, embedded_text
from ragx.util.files import writer_lock

READ = ("passages.arrow", "vectors.npy")
"""Files of a shard that its passages are moved from."""
READ_AT_ONCE = 8192
"""Passages that are compared with the index at a time."""


class Update(NamedTuple):
    """What an update did."""

    manifest: Manifest
    added: int
    """Passages that are new, or replace another of their id."""
    deleted: int
    """Passages that are gone, the replaced ones among them."""


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
    """Delete passages from the index in `out`, then add some, and publish that; readers are not disturbed.

    A passage added under an id that is there replaces the one that has it; one that is there already, the same in every
    field, stays as it is. Where nothing changes, `sources` included, nothing is published. After a crash the index is
    what it was, and the same update can be run again. Memory holds the passages that are new.

    Args:
        out: an index folder.
        embedder: the one that the index was built with; None will do where nothing is added.
        add: passages; the last of those with one id counts.
        delete: passage ids, asked for after those to add have been read; those that are not there are passed over.
        sources: called after that, maybe twice: the lines of `sources.jsonl`; None: no files are known.
        create: settings of the index that is made where `out` has none; None: there must be one.
        quiet: no progress bars on stderr.

    Returns:
        The manifest of the generation that is now the current one, and what changed.

    Raises:
        IndexFolderError: there is no index in `out`, it was built with another embedder, cannot be written, or another
            process is writing to it.
        CorpusError: a passage is not valid Unicode.
        ModelError: the embedder gave vectors that are not finite.
        ConfigError: the FAISS factory string of `create` is invalid.
        ValueError: there is something to embed and no embedder.
    """
    if create is None:
        current_generation(out)  # before the lock, which would make a folder
    else:
        check_out(out)
    with writer_lock(out):
        there = (out / "CURRENT").exists()
        if create and not there and generations(out):
            restore_current(out)
            there = True
        index = _empty(out, create, embedder) if create and not there else Index.open(out)
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
    """As `update_index`, for a caller that holds the lock and has opened the current generation under it.

    `settings` replace those of the manifest if anything changes; `on_progress` gets the numbers of embedded passages
    and of all.
    """
    if embedder is not None:
        index.check_embedder(embedder)
    added, same = _changed(index, add)
    gone = [row for row in index.find({*delete, *added}).values() if not same[row]]
    if not (added or gone or (sources is not None and not _has(index.manifest, sources()))):
        return Update(index.manifest, 0, 0)
    if sources is None and SOURCES in index.manifest.files:
        sources = tuple  # the passages of any file may have changed
    deleted = np.union1d(index.deleted, np.array(gone, np.int64))
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
    return Update(manifest, len(added), len(gone))


def _changed(index: Index, passages: Iterable[Passage]) -> tuple[dict[str, Passage], np.ndarray]:
    """The passages by id that the index does not hold as they are, and the rows of those that it does, (n,) bool."""
    same = np.zeros(index.total, bool)
    changed: dict[str, Passage] = {}
    stream = iter(passages)
    by_id: ById | None = None
    while chunk := list(islice(stream, READ_AT_ONCE)):
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


def _has(manifest: Manifest, lines: Iterable[bytes]) -> bool:
    """Whether these are the lines of the generation's `sources.jsonl`."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return SOURCES in manifest.files and manifest.files[SOURCES].sha256 == digest.hexdigest()


def _empty(out: Path, settings: IndexSettings, embedder: Embedder | None) -> Index:
    if embedder is None:
        raise ValueError("a new index needs an embedder")
    manifest = Manifest(
        created="", settings=settings, embedder=EmbedderEntry.of(embedder), counts=Counts(), shards=[], files={}
    )
    return Index(out, manifest, [], None, NONE)


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
    words_anew: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    quiet: bool,
) -> Manifest:
    """Publish the first `keep` shards, and the passages of the others, without `deleted` rows, before those `added`.

    With `words_anew` the lexical index is built from them, and so without the words of any passage deleted before. The
    caller holds the lock. Raises as `update_index`.
    """
    manifest = index.manifest
    kept = index.shards[:keep]
    start = kept[-1].offset + len(kept[-1].vectors) if kept else 0
    index.check_files([f"{shard.folder.name}/{name}" for shard in index.shards[keep:] for name in READ])
    moved = np.setdiff1d(np.arange(start, index.total), deleted).tolist()
    rows = {passage.id: row for row, passage in zip(moved, index.passages(moved), strict=True)}
    gone = np.setdiff1d(deleted, index.deleted)
    rows |= _embedded(index, added, gone.tolist())
    deleted = deleted[deleted < start]

    def known(id: str) -> np.ndarray | None:
        return index.vector(rows[id]) if id in rows else None

    staging = Staging(out, manifest.embedder, settings or manifest.settings)
    folders = tuple(f"{shard_folder(staging.folder, number).name}/" for number in range(len(kept)))
    staging.shards[: len(kept)] = manifest.shards[: len(kept)]
    staging.adopt([name for name in manifest.files if name.startswith(folders)])
    write_shards(staging, chain(index.passages(moved), added), first=len(kept))
    embed_shards(staging, embedder, known, quiet=quiet, on_progress=on_progress)
    staging.delete(deleted)
    if sources is not None:
        staging.note_sources(sources())
    else:
        staging.adopt([name for name in manifest.files if name == SOURCES])
    if words_anew or not _update_words(staging, index, start, gone[gone < start].tolist(), quiet=quiet):
        index_words(staging, deleted, quiet=quiet)
    documents = {*_documents(kept, deleted), *(passage.document for passage in index.passages(moved))}
    documents |= {passage.document for passage in added}
    counts = {
        "documents": len(documents),
        "passages": sum(shard.passages for shard in staging.shards) - len(deleted),
        "shards": len(staging.shards),
    }
    return staging.publish(manifest.counts.model_copy(update=counts))


def _update_words(staging: Staging, index: Index, start: int, gone: list[int], *, quiet: bool) -> bool:
    """Take the lexical index over, delete rows `gone` and those from `start` on, and add the shards from there.

    Returns:
        False where it is damaged, or there is none yet, and must be built.
    """
    held = lexical_files(index.manifest)
    if not held:
        return False
    staging.adopt(held)
    total = sum(shard.passages for shard in staging.shards)
    if not gone and start == index.total == total:
        return True
    staging.forget(f"{LEXICAL}/{META}")
    new = documents(staging, start, NONE, quiet=quiet)
    try:
        names = write_lexical(staging.folder / LEXICAL, staging.settings.language, new, first=start, deleted=gone)
        # what was merged has new checksums, which must not hide that it was damaged
        index.check_files(set(held) - {f"{LEXICAL}/{name}" for name in names})
    except (LexicalError, IndexFolderError):
        return False
    staging.renew(LEXICAL, names)
    return True


def _embedded(index: Index, added: list[Passage], gone: list[int]) -> dict[str, int]:
    """Rows among those `gone` that have the text of a passage `added`, by its id: it moved, or its file was renamed."""
    wanted = {embedded_text(passage) for passage in added}
    if not wanted:
        return {}
    passages = zip(gone, index.passages(gone), strict=True)
    rows = {text: row for row, passage in passages if (text := embedded_text(passage)) in wanted}
    index.check_files({f"{index.shard_of(row).folder.name}/vectors.npy" for row in rows.values()})
    return {passage.id: rows[text] for passage in added if (text := embedded_text(passage)) in rows}


def _kept_shards(shards: list[Shard], added: int, deleted: np.ndarray, size: int) -> int:
    """How many stay: all but the last ones that are not full and hold no more live passages than what follows them."""
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
