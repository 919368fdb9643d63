"""Staging: `gen-building/`, the generation being written, until it is published.

`gen-building/manifest.json` lists every file once it is complete and on disk, so that an interrupted build can be
continued.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from ragx.config import IndexSettings
from ragx.errors import IndexFolderError
from ragx.index.integrity import problems
from ragx.index.manifest import (
    DELETED,
    SOURCES,
    STAGING,
    Counts,
    EmbedderEntry,
    FileEntry,
    Manifest,
    ShardEntry,
    current_generation,
    generation_number,
    generations,
    load_manifest,
    write_manifest,
)
from ragx.util.files import durable_file, sha256, sync_file, sync_folder, writing


def restore_current(out: Path) -> None:
    """Set `CURRENT` to the newest intact generation.

    Raises:
        IndexFolderError: there is none, or `CURRENT` cannot be written.
    """
    for generation in reversed(generations(out)):
        try:
            is_intact = not any(problems(generation, load_manifest(generation)))
        except IndexFolderError:
            is_intact = False
        if is_intact:
            with durable_file(out / "CURRENT") as file:
                file.write(f"{generation.name}\n".encode())
            return
    raise IndexFolderError(f"no generation in {out} is intact: rebuild the index")


class Staging:
    """`gen-building/`: the finished files of the next generation."""

    def __init__(self, out: Path, embedder: EmbedderEntry, settings: IndexSettings) -> None:
        """Continue an interrupted build with the same embedder, or start empty."""
        self.out = out
        self.folder = out / STAGING
        self.settings = settings
        self.embedder = embedder
        self.shards: list[ShardEntry] = []
        self.files: dict[str, FileEntry] = {}
        with writing(self.folder):
            self._restore_unpublished()
            self.folder.mkdir(exist_ok=True)
            shutil.rmtree(self.drafts, ignore_errors=True)
        try:
            earlier = load_manifest(self.folder)
        except IndexFolderError:
            earlier = None
        if earlier is None or earlier.embedder.fingerprint != embedder.fingerprint:
            with writing(self.folder):
                shutil.rmtree(self.folder)
                self.folder.mkdir()
                sync_folder(out)
            return
        damaged = {name for name, _ in problems(self.folder, earlier)}
        self.shards = list(earlier.shards)
        self.files = {name: entry for name, entry in earlier.files.items() if name not in damaged}
        if earlier.settings.vectors != settings.vectors:
            self.forget("shard-", "/vectors.npy")
        if (earlier.settings.faiss, earlier.settings.vectors) != (settings.faiss, settings.vectors):
            self.forget("shard-", "/faiss.index")
        self.forget(DELETED)
        self.forget(SOURCES)

    def has(self, name: str) -> bool:
        """Whether a file is finished."""
        path = self.folder / name
        return name in self.files and path.is_file() and path.stat().st_size == self.files[name].size

    def record(self, *names: str) -> None:
        """Record files as finished."""
        for name in names:
            path = self.folder / name
            with writing(path):
                self.files[name] = FileEntry(size=path.stat().st_size, sha256=sha256(path))
        self._write(Counts())

    @property
    def total(self) -> int:
        """Number of passages in all shards."""
        return sum(shard.passages for shard in self.shards)

    def spans(self) -> Iterator[tuple[int, int]]:
        """First and last row, exclusive, of each shard."""
        return pairwise(accumulate((shard.passages for shard in self.shards), initial=0))

    @property
    def drafts(self) -> Path:
        """Where other processes write, each attempt in its own folder; `take_draft` moves its files into place."""
        return self.folder / "drafts"

    def take_draft(self, draft: Path, folder: Path) -> None:
        """Move the files of a finished draft into a shard's folder and record them as finished."""
        with writing(folder):
            names = sorted(path.name for path in draft.iterdir())
            for name in names:
                (draft / name).replace(folder / name)
            draft.rmdir()
            sync_folder(folder)
        self.record(*(f"{folder.name}/{name}" for name in names))

    def forget(self, prefix: str, suffix: str = "") -> None:
        """Record files with this prefix and suffix as unfinished, before they are rewritten."""
        kept = {
            name: entry for name, entry in self.files.items() if not (name.startswith(prefix) and name.endswith(suffix))
        }
        if kept != self.files:
            self.files = kept
            self._write(Counts())

    def adopt(self, names: Collection[str]) -> None:
        """Take files from the current generation, as hard links if the file system supports them, else as copies."""
        if not names:
            return
        generation = current_generation(self.out)
        listed = load_manifest(generation).files
        missing = [name for name in names if self.files.get(name) != listed[name] or not self.has(name)]
        # one write forgets other files of these names and lists the new shards
        self.files = {name: entry for name, entry in self.files.items() if name not in missing}
        self._write(Counts())
        for name in missing:
            path = self.folder / name
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                try:
                    os.link(generation / name, path)
                except OSError:  # a file system without hard links
                    shutil.copyfile(generation / name, path)
                    sync_file(path)
        with writing(self.folder):
            files = {self.folder / name for name in missing}
            for folder in {parent for file in files for parent in file.parents if parent.is_relative_to(self.folder)}:
                sync_folder(folder)
        self.files |= {name: listed[name] for name in missing}
        self._write(Counts())

    def update_folder(self, folder: str, names: Iterable[str]) -> None:
        """Record the files of a folder: `names` are its files now; those recorded before are unchanged."""
        with writing(self.folder):
            sync_folder((self.folder / folder).parent)
        present = [f"{folder}/{name}" for name in names]
        known = {name: self.files[name] for name in present if name in self.files}
        self.forget(f"{folder}/")
        self.files |= known
        self.record(*(name for name in present if name not in known))

    def write_deleted(self, rows: np.ndarray) -> None:
        """Write the deleted rows, in ascending order."""
        if len(rows):
            with durable_file(self.folder / DELETED) as file:
                np.save(file, rows.astype("<i8"), allow_pickle=False)
            self.record(DELETED)

    def write_sources(self, lines: Iterable[bytes]) -> None:
        """Write `sources.jsonl`."""
        with durable_file(self.folder / SOURCES) as file:
            for line in lines:
                file.write(line)
        self.record(SOURCES)

    def discard(self) -> None:
        """Delete everything."""
        with writing(self.folder):
            shutil.rmtree(self.folder)

    def publish(self, counts: Counts) -> Manifest:
        """Make this the current generation, keep the previous one and delete older ones."""
        manifest = self._write(counts)
        shutil.rmtree(self.drafts, ignore_errors=True)
        with writing(self.folder):
            for path in list(self.folder.rglob("*")):
                if path.is_file() and path.relative_to(self.folder).as_posix() not in {*self.files, "manifest.json"}:
                    path.unlink()
            earlier = generations(self.out)
            generation = self.out / f"gen-{generation_number(earlier[-1]) + 1 if earlier else 1:04d}"
            self.folder.rename(generation)
            sync_folder(self.out)
        with durable_file(self.out / "CURRENT") as file:
            file.write(f"{generation.name}\n".encode())
        for old in earlier[:-1]:
            shutil.rmtree(old, ignore_errors=True)
        return manifest

    def _restore_unpublished(self) -> None:
        """Undo the rename of a build that was interrupted before it replaced `CURRENT`."""
        finished = generations(self.out)
        try:
            current = generation_number(current_generation(self.out))
        except IndexFolderError:
            current = 0
        if finished and generation_number(finished[-1]) > current and not self.folder.exists():
            finished[-1].rename(self.folder)

    def _write(self, counts: Counts) -> Manifest:
        manifest = Manifest(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=self.settings,
            embedder=self.embedder,
            counts=counts,
            shards=self.shards,
            files=self.files,
        )
        write_manifest(manifest, self.folder)
        return manifest
