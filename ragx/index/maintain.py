"""The upkeep of an index folder: verify, repair, compact, collect what nobody needs, remove."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ragx.config import Search
from ragx.errors import REPAIR_ADVICE, IndexFolderError
from ragx.index.build import NONE, embed_shards, index_words
from ragx.index.index import Index, open_lexical, open_vectors, problems
from ragx.index.lexical import has_deleted
from ragx.index.manifest import (
    DELETED,
    LEXICAL,
    SOURCES,
    STAGING,
    Manifest,
    current_generation,
    generations,
    is_index_folder,
    lexical_files,
    load_manifest,
    of_current,
)
from ragx.index.staging import Staging, restore_current
from ragx.index.update import publish_update
from ragx.util.files import sync_folder, writer_lock, writing


def verify(folder: Path) -> None:
    """Read every file of the current generation and compare it with the manifest.

    Raises:
        IndexFolderError: there is no index in `folder`, or files of it are damaged or missing; all are named.
    """

    def check(generation: Path) -> None:
        found = [problem for _, problem in problems(generation, load_manifest(generation))]
        if found:
            raise IndexFolderError(f"{'; '.join(found)}: {REPAIR_ADVICE}")

    of_current(folder, check)


def repair_index(folder: Path, *, quiet: bool = False) -> list[str]:
    """Make damaged FAISS files and lexical indexes again, from passages and vectors, as the next generation.

    An index that an earlier ragx wrote, without a lexical index, gets one. A damaged `sources.jsonl` becomes an empty
    one: the next update reads every file. A `CURRENT` that names no generation that is there is made to name the newest
    one that is whole.

    Returns:
        The names of the files that were damaged, `lexical` for an index that was missing or could not be opened; where
        there are none, nothing is published.

    Raises:
        IndexFolderError: there is no index in `folder`; its manifest, passages, vectors or deletions are damaged, which
            nothing else holds; it cannot be written, or another process is writing to it.
    """
    if not generations(folder):
        current_generation(folder)  # before the lock, which would make a folder
    with writer_lock(folder):
        try:
            generation = current_generation(folder)
        except IndexFolderError:
            restore_current(folder)
            return ["CURRENT"]
        manifest = load_manifest(generation)
        damaged = dict(problems(generation, manifest))
        lost = [problem for name, problem in damaged.items() if not _can_be_made_again(name)]
        if lost:
            raise IndexFolderError(f"{'; '.join(lost)}: this cannot be made again from other files: rebuild the index")
        words = not _has_lexical(generation, manifest, damaged)
        if not damaged and not words:
            return []
        staging = Staging(folder, manifest.embedder, manifest.settings)
        staging.forget("")
        staging.shards = list(manifest.shards)
        staging.adopt([name for name in _carried(manifest, words=not words) if name not in damaged])
        embed_shards(staging, None, quiet=quiet)
        if words:
            index_words(staging, _deleted(generation, manifest), quiet=quiet)
        if SOURCES in damaged:
            staging.note_sources([])
        staging.publish(manifest.counts)
        unnamed = words and not any(name.startswith(f"{LEXICAL}/") for name in damaged)
        return sorted([*damaged, LEXICAL] if unnamed else damaged)


def _has_lexical(generation: Path, manifest: Manifest, damaged: Collection[str]) -> bool:
    if not lexical_files(manifest) or any(map(_of_words, damaged)):
        return False
    try:
        open_lexical(generation, manifest)
    except IndexFolderError:
        return False
    return True


def _carried(manifest: Manifest, *, words: bool = True) -> list[str]:
    """The files that the next generation takes over, those of the lexical index only with `words`."""
    others = [name for name in manifest.files if not _of_words(name)]
    return [*others, *lexical_files(manifest)] if words else others


def _deleted(generation: Path, manifest: Manifest) -> np.ndarray:
    return open_vectors(generation / DELETED) if DELETED in manifest.files else NONE


def _of_words(name: str) -> bool:
    return name.startswith((f"{LEXICAL}/", "bm25/"))  # bm25: of an earlier ragx


def _can_be_made_again(name: str) -> bool:
    return name.endswith("faiss.index") or _of_words(name) or name == SOURCES


def publish_search(folder: Path, search: Search) -> Manifest:
    """Publish the index as it is, to be searched in another way.

    Raises:
        IndexFolderError: there is no index in `folder`, it cannot be written, or another process is writing to it.
    """
    current_generation(folder)  # before the lock, which would make a folder
    with writer_lock(folder):
        generation = current_generation(folder)
        manifest = load_manifest(generation)
        staging = Staging(folder, manifest.embedder, manifest.settings.model_copy(update={"search": search}))
        staging.forget("")
        staging.shards = list(manifest.shards)
        staging.adopt(_carried(manifest))
        if not lexical_files(manifest):
            index_words(staging, _deleted(generation, manifest), quiet=True)
        return staging.publish(manifest.counts)


def compact_index(folder: Path, *, quiet: bool = False) -> Manifest:
    """Write the shards that hold deleted passages, or are smaller than they could be, again, and what follows them.

    The vectors move along: nothing is embedded. The lexical index is built anew. Where there is nothing to gain,
    nothing is published.

    Raises:
        IndexFolderError: there is no index in `folder`, it is damaged, cannot be written, or another process is writing
            to it.
    """
    current_generation(folder)  # before the lock, which would make a folder
    with writer_lock(folder):
        return _compact(folder, quiet)


def _compact(folder: Path, quiet: bool) -> Manifest:
    index = Index.open(folder)
    size = index.manifest.settings.shard_size
    kept = 0
    for shard in index.shards:
        if shard.live is not None or (len(shard.vectors) < size and shard is not index.shards[-1]):
            break
        kept += 1
    if kept == len(index.shards) and not _holds_deleted_words(index):
        return index.manifest
    return publish_update(folder, index, kept, [], index.deleted, None, words_anew=True, quiet=quiet)


def _holds_deleted_words(index: Index) -> bool:
    words = index.folder / index.generation / LEXICAL
    return bool(lexical_files(index.manifest)) and has_deleted(words)


def collect_garbage(folder: Path, *, quiet: bool = False) -> int:
    """Delete all but the current generation, after compacting it if it holds deleted passages.

    Then no file of the folder holds the text of a deleted passage. Readers that have opened an earlier generation can
    go on. An unfinished build or update is deleted too.

    Returns:
        How many bytes of disk were given back.

    Raises:
        IndexFolderError: as `compact_index`.
    """
    current_generation(folder)  # before the lock, which would make a folder
    with writer_lock(folder):
        before = _bytes(folder)
        index = Index.open(folder)
        if len(index.deleted) or _holds_deleted_words(index):
            _compact(folder, quiet)
        current = current_generation(folder)
        with writing(folder):
            for path in [*generations(folder), folder / STAGING, *folder.glob("*.tmp")]:
                if path.is_dir() and path != current:
                    shutil.rmtree(path)
                elif path.is_file():
                    path.unlink()
            sync_folder(folder)
        return before - _bytes(folder)


def remove(folder: Path) -> None:
    """Delete an index: its generations and any unfinished build. Other files in the folder stay.

    Raises:
        IndexFolderError: there is no index in `folder`, another process is writing to it, or it cannot be deleted.
    """
    if not is_index_folder(folder):
        raise IndexFolderError(f"no index at {folder}")
    with writer_lock(folder), writing(folder):
        # CURRENT first: a crash leaves no index rather than a broken one.
        (folder / "CURRENT").unlink(missing_ok=True)
        for generation in generations(folder):
            shutil.rmtree(generation)
        if (folder / STAGING).is_dir():
            shutil.rmtree(folder / STAGING)
        (folder / "CURRENT.tmp").unlink(missing_ok=True)  # of a writer that was killed
        (folder / "LOCK").unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _bytes(folder: Path) -> int:
    """Of all files, those that several generations share counted once."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({file.st_ino: file.st_blocks * 512 for file in files}.values())
