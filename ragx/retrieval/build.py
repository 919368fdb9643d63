"""build_index: passages to a published generation of an index, continuing a build that died.

1. The passages of every shard are written to `gen-building/`, which also tells how many there are.
2. Shard by shard they are embedded, and the FAISS index is built from the vectors.
3. BM25 is built over all shards.
4. `gen-building/` is renamed to the next generation and `CURRENT` is replaced.

`gen-building/manifest.json` lists every file as soon as it is whole and on the disk. A build that finds it keeps the
shards whose passages have the same digest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ragx.config import IndexSettings
from ragx.errors import CorpusError, IndexFolderError, ModelError
from ragx.retrieval.bm25 import build_bm25
from ragx.retrieval.dense import build_faiss, check_trainable, new_index, write_faiss
from ragx.retrieval.durable import durable_file, sha256, sync_folder, writer_lock, writing
from ragx.retrieval.encoder import Encoder
from ragx.retrieval.index import open_vectors, shard_folder
from ragx.retrieval.manifest import (
    STAGING,
    Counts,
    EncoderEntry,
    FileEntry,
    Manifest,
    ShardEntry,
    current_generation,
    generation_number,
    generations,
    is_index_folder,
    load_manifest,
    write_manifest,
)
from ragx.retrieval.passages import all_passages, digest, embedded_text, open_passages, write_passages
from ragx.types import Passage


def build_index(
    passages: Iterable[Passage],
    out: Path,
    encoder: Encoder,
    settings: IndexSettings,
    *,
    counts: Callable[[], Mapping[str, int]] = dict,
    quiet: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Manifest:
    """Build an index in the folder `out` and publish it; readers of an earlier generation are not disturbed.

    Memory holds the passages and vectors of one shard, and the word numbers of all passages for BM25. A build that died
    is continued when called again: shards that were finished, from the same passages by the same encoder, are kept.

    Args:
        passages: read once, in order; their ids must be unique.
        out: created if it is not there.
        encoder: makes the vectors.
        settings: `faiss` and `shard_size` are used here, the rest is recorded.
        counts: called when the passages are read: any of `documents`, `duplicates`, `empty` and `skipped`.
        quiet: no progress bars on stderr.
        on_progress: told how many passages are embedded, and of how many.

    Raises:
        ConfigError: the FAISS factory string is invalid or needs more passages. Found before anything is embedded.
        CorpusError: there are no passages, or one is not valid Unicode.
        IndexFolderError: `out` holds something else, cannot be written, or another process is writing to it.
        ModelError: the encoder gave vectors that are not finite.
    """
    new_index(settings.faiss, encoder.dimension)
    with writing(out):
        if out.is_dir() and any(path.name != "LOCK" for path in out.iterdir()) and not is_index_folder(out):
            raise IndexFolderError(f"{out} is not empty and not an index: choose another folder")
    with writer_lock(out):
        staging = Staging(out, encoder, settings)
        _write_passages(staging, tqdm(passages, desc="reading", unit=" passages", disable=quiet or None))
        total = Counts(
            **{**counts(), "passages": sum(shard.passages for shard in staging.shards), "shards": len(staging.shards)}
        )
        if not total.passages:
            staging.discard()
            raise CorpusError("there are no passages to index")
        check_trainable(settings.faiss, encoder.dimension, [shard.passages for shard in staging.shards])
        _embed(staging, encoder, quiet, on_progress)
        _index_words(staging, quiet)
        return staging.publish(total)


class Staging:
    """`gen-building/`: the files of the next generation that are finished, as its manifest lists them."""

    def __init__(self, out: Path, encoder: Encoder, settings: IndexSettings) -> None:
        """Open what a build that died left, if the same encoder made it; otherwise start empty."""
        self.out = out
        self.folder = out / STAGING
        self.settings = settings
        self.encoder = EncoderEntry(name=encoder.name, fingerprint=encoder.fingerprint, dimension=encoder.dimension)
        self.shards: list[ShardEntry] = []
        self.files: dict[str, FileEntry] = {}
        with writing(self.folder):
            self._take_back_unpublished()
            self.folder.mkdir(exist_ok=True)
        try:
            earlier = load_manifest(self.folder)
        except IndexFolderError:
            earlier = None
        if earlier is None or earlier.encoder.fingerprint != encoder.fingerprint:
            with writing(self.folder):
                shutil.rmtree(self.folder)
                self.folder.mkdir()
                sync_folder(out)
            return
        self.shards = list(earlier.shards)
        self.files = dict(earlier.files)
        if earlier.settings.faiss != settings.faiss:
            self.forget("shard-", "/faiss.index")

    def has(self, name: str) -> bool:
        """Whether a file is finished."""
        path = self.folder / name
        return name in self.files and path.is_file() and path.stat().st_size == self.files[name].size

    def record(self, *names: str) -> None:
        """Note files as finished."""
        for name in names:
            path = self.folder / name
            with writing(path):
                self.files[name] = FileEntry(size=path.stat().st_size, sha256=sha256(path))
        self._write(Counts())

    def forget(self, prefix: str, suffix: str = "") -> None:
        """Note the files of such names as unfinished: before they are written again."""
        kept = {
            name: entry for name, entry in self.files.items() if not (name.startswith(prefix) and name.endswith(suffix))
        }
        if kept != self.files:
            self.files = kept
            self._write(Counts())

    def discard(self) -> None:
        """Delete everything."""
        with writing(self.folder):
            shutil.rmtree(self.folder)

    def publish(self, counts: Counts) -> Manifest:
        """Make this the current generation, keep the one before it and delete older ones."""
        manifest = self._write(counts)
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

    def _take_back_unpublished(self) -> None:
        """Undo the rename of a build that died between naming its generation and replacing `CURRENT`."""
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
            encoder=self.encoder,
            counts=counts,
            shards=self.shards,
            files=self.files,
        )
        write_manifest(manifest, self.folder)
        return manifest


def _write_passages(staging: Staging, passages: Iterable[Passage]) -> None:
    count = 0
    for number, chunk in enumerate(_chunks(passages, staging.settings.shard_size)):
        folder = shard_folder(staging.folder, number)
        name = f"{folder.name}/passages.arrow"
        entry = ShardEntry(passages=len(chunk), digest=digest(chunk))
        count += 1
        if staging.shards[number : number + 1] == [entry] and staging.has(name):
            continue
        staging.forget(f"{folder.name}/")
        with writing(folder):
            folder.mkdir(exist_ok=True)
            sync_folder(staging.folder)
        write_passages(chunk, folder / "passages.arrow")
        staging.shards[number : number + 1] = [entry]
        staging.record(name)
    for number in range(count, len(staging.shards)):
        folder = shard_folder(staging.folder, number)
        staging.forget(f"{folder.name}/")
        shutil.rmtree(folder, ignore_errors=True)
    del staging.shards[count:]


def _chunks(passages: Iterable[Passage], size: int) -> Iterator[list[Passage]]:
    stream = iter(passages)
    while chunk := list(islice(stream, size)):
        yield chunk


def _embed(staging: Staging, encoder: Encoder, quiet: bool, on_progress: Callable[[int, int], object]) -> None:
    folders = [shard_folder(staging.folder, number) for number in range(len(staging.shards))]
    embedded = [staging.has(f"{folder.name}/vectors.npy") for folder in folders]
    done = sum(shard.passages for shard, finished in zip(staging.shards, embedded, strict=True) if finished)
    total = sum(shard.passages for shard in staging.shards)
    with tqdm(total=total, initial=done, desc="embedding", unit=" passages", disable=quiet or None) as bar:

        def embedded_more(number: int) -> None:
            nonlocal done
            done += number
            bar.update(number)
            on_progress(done, total)

        for folder, finished in zip(folders, embedded, strict=True):
            if not finished:
                passages = all_passages(open_passages(folder / "passages.arrow"))
                vectors = encoder.encode_passages(passages, embedded_more)
                if not np.isfinite(vectors).all():
                    raise ModelError(f"encoder {encoder.name} gives vectors that are not finite: use another dtype")
                with durable_file(folder / "vectors.npy") as file:
                    np.save(file, vectors, allow_pickle=False)
                staging.record(f"{folder.name}/vectors.npy")
            if not staging.has(f"{folder.name}/faiss.index"):
                vectors = open_vectors(folder / "vectors.npy")
                write_faiss(build_faiss(vectors, staging.settings.faiss), folder / "faiss.index")
                staging.record(f"{folder.name}/faiss.index")


def _index_words(staging: Staging, quiet: bool) -> None:
    staging.forget("bm25/")
    tables = (
        open_passages(shard_folder(staging.folder, number) / "passages.arrow") for number in range(len(staging.shards))
    )
    texts = (embedded_text(passage) for table in tables for passage in all_passages(table))
    total = sum(shard.passages for shard in staging.shards)
    bar = tqdm(texts, total=total, desc="counting words", unit=" passages", disable=quiet or None)
    staging.record(*(f"bm25/{name}" for name in build_bm25(bar, staging.folder / "bm25")))
