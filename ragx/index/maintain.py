"""Maintain an index folder: verify, repair, compact, collect garbage, remove."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ragx.config import Search
from ragx.errors import REPAIR_ADVICE, IndexFolderError
from ragx.index.build import embed_shards
from ragx.index.index import Index, open_lexical
from ragx.index.integrity import problems
from ragx.index.lexical import lexical_shard_folder
from ragx.index.lexical_build import NO_ROWS, build_lexical
from ragx.index.lexical_shard import has_deleted
from ragx.index.lock import index_lock
from ragx.index.manifest import (
    DELETED,
    LEXICAL,
    SOURCES,
    STAGING,
    Manifest,
    current_generation,
    generations,
    is_index_folder,
    load_manifest,
    read_current,
)
from ragx.index.staging import Staging, restore_current
from ragx.index.update import publish_update
from ragx.index.vectors import open_vectors
from ragx.util.files import sync_folder, writing


def verify(folder: Path) -> None:
    """Read every file of the current generation and compare it with the manifest.

    Raises:
        IndexFolderError: there is no index in `folder`, or files are damaged or missing; names all of them.
    """

    def check(generation: Path) -> None:
        damage = [problem for _, problem in problems(generation, load_manifest(generation))]
        if damage:
            raise IndexFolderError(f"{'; '.join(damage)}: {REPAIR_ADVICE}")

    read_current(folder, check)


def repair_index(folder: Path, *, quiet: bool = False) -> list[str]:
    """Rebuild damaged FAISS and lexical indexes from passages and vectors, and publish them as a new generation.

    A damaged `sources.jsonl` is emptied, so that the next update reads all files. A damaged `CURRENT` is set to the
    newest intact generation.

    Returns:
        The names of the damaged files, or `lexical` for a lexical index that could not be opened. If nothing was
        damaged, nothing is published.

    Raises:
        IndexFolderError: there is no index in `folder`; its manifest, passages, vectors or deletions are damaged and
            cannot be regenerated; it cannot be written, or another process is writing to it.
    """
    if not generations(folder):
        current_generation(folder)  # raise before the lock creates the folder
    with index_lock(folder):
        try:
            generation = current_generation(folder)
        except IndexFolderError:
            restore_current(folder)
            return ["CURRENT"]
        manifest = load_manifest(generation)
        damaged = dict(problems(generation, manifest))
        lost = [problem for name, problem in damaged.items() if not _is_derived(name)]
        if lost:
            raise IndexFolderError(f"{'; '.join(lost)}: it cannot be regenerated from other files; rebuild the index")
        rebuild_lexical = not _has_lexical(generation, manifest, damaged)
        if not damaged and not rebuild_lexical:
            return []
        staging = Staging(folder, manifest.embedder, manifest.settings)
        staging.forget("")
        staging.shards = list(manifest.shards)
        kept = [name for name in manifest.files if not (rebuild_lexical and _is_lexical(name))]
        staging.adopt([name for name in kept if name not in damaged])
        embed_shards(staging, None, quiet=quiet)
        if rebuild_lexical:
            build_lexical(staging, _deleted_rows(generation, manifest), quiet=quiet)
        if SOURCES in damaged:
            staging.write_sources([])
        staging.publish(manifest.counts)
        is_named = any(name.startswith(f"{LEXICAL}/") for name in damaged)
        return sorted([*damaged, LEXICAL] if rebuild_lexical and not is_named else damaged)


def _has_lexical(generation: Path, manifest: Manifest, damaged: Collection[str]) -> bool:
    if any(map(_is_lexical, damaged)):
        return False
    try:
        open_lexical(generation, manifest)
    except IndexFolderError:
        return False
    return True


def _deleted_rows(generation: Path, manifest: Manifest) -> np.ndarray:
    return open_vectors(generation / DELETED) if DELETED in manifest.files else NO_ROWS


def _is_lexical(name: str) -> bool:
    return name.startswith(f"{LEXICAL}/")


def _is_derived(name: str) -> bool:
    return name.endswith("faiss.index") or _is_lexical(name) or name == SOURCES


def publish_search(folder: Path, search: Search) -> Manifest:
    """Publish the index with other search settings.

    Raises:
        IndexFolderError: there is no index in `folder`, it cannot be written, or another process is writing to it.
    """
    current_generation(folder)  # raise before the lock creates the folder
    with index_lock(folder):
        generation = current_generation(folder)
        manifest = load_manifest(generation)
        staging = Staging(folder, manifest.embedder, manifest.settings.model_copy(update={"search": search}))
        staging.forget("")
        staging.shards = list(manifest.shards)
        staging.adopt([*manifest.files])
        return staging.publish(manifest.counts)


def compact_index(folder: Path, *, quiet: bool = False) -> Manifest:
    """Rewrite all shards from the first that has deleted passages or is not full, without deleted passages.

    Vectors are copied, so nothing is embedded; the lexical index is rebuilt. If there is nothing to gain, nothing is
    published.

    Raises:
        IndexFolderError: there is no index in `folder`, it is damaged, cannot be written, or another process is writing
            to it.
    """
    current_generation(folder)  # raise before the lock creates the folder
    with index_lock(folder):
        return _compact(folder, quiet)


def _compact(folder: Path, quiet: bool) -> Manifest:
    index = Index.open(folder)
    size = index.manifest.settings.shard_size
    kept = 0
    for shard in index.shards:
        if shard.live is not None or (len(shard.vectors) < size and shard is not index.shards[-1]):
            break
        kept += 1
    if kept == len(index.shards) and not _has_deleted_words(index):
        return index.manifest
    return publish_update(folder, index, kept, [], index.deleted, None, rebuild_lexical=True, quiet=quiet)


def _has_deleted_words(index: Index) -> bool:
    lexical = index.folder / index.generation / LEXICAL
    return any(has_deleted(lexical_shard_folder(lexical, number)) for number in range(len(index.lexical.shards)))


def collect_garbage(folder: Path, *, quiet: bool = False) -> int:
    """Delete all generations but the current one, which is compacted first if it contains deleted passages.

    Afterwards, no file in the folder contains text of a deleted passage. Readers of an earlier generation can continue.
    Unfinished builds and updates are deleted too.

    Returns:
        Freed disk space in bytes.

    Raises:
        IndexFolderError: as `compact_index`.
    """
    current_generation(folder)  # raise before the lock creates the folder
    with index_lock(folder):
        before = _bytes(folder)
        index = Index.open(folder)
        if len(index.deleted) or _has_deleted_words(index):
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
    """Delete an index: its generations and any unfinished build. Other files stay.

    Raises:
        IndexFolderError: there is no index in `folder`, another process is writing to it, or it cannot be deleted.
    """
    if not is_index_folder(folder):
        raise IndexFolderError(f"no index at {folder}")
    with index_lock(folder), writing(folder):
        # CURRENT first, so that a crash leaves no index rather than a broken one
        (folder / "CURRENT").unlink(missing_ok=True)
        for generation in generations(folder):
            shutil.rmtree(generation)
        if (folder / STAGING).is_dir():
            shutil.rmtree(folder / STAGING)
        (folder / "CURRENT.tmp").unlink(missing_ok=True)  # left by a killed writer
        (folder / "LOCK").unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _bytes(folder: Path) -> int:
    """Disk space of all files, counting those shared by generations once."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({file.st_ino: file.st_blocks * 512 for file in files}.values())
