"""Damage in an index too large to be checked on opening: writers never hide it, readers never crash."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ragx.config import Search
from ragx.errors import IndexFolderError
from ragx.index import Index, compact_index, update_index, verify
from ragx.index.dense import new_index, open_faiss, write_faiss
from ragx.retrieval import Retriever
from tests.helpers.small_indexes import SNOW, build
from tests.helpers.toy_embedders import WordEmbedder, passage

pytestmark = pytest.mark.usefixtures("unread_when_opened")


def flip(path: Path, value: bytes) -> None:
    """Change the first byte of `value` in a file."""
    content = bytearray(path.read_bytes())
    content[content.index(value)] ^= 1
    path.write_bytes(content)


def check_refusal(folder: Path, path: Path, write: Callable[[], object]) -> None:
    """Check that `write` refuses to publish, because of a damaged file."""
    for _ in range(2):
        with pytest.raises(IndexFolderError, match=f"{path} is damaged: its SHA-256"):
            write()
    with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
        verify(folder)
    assert (folder / "CURRENT").read_text() == f"{path.parents[1].name}\n"


def damaged(folder: Path, name: str, row: int) -> Path:
    """Damage a row in a file of its shard, which has three passages, and return the file."""
    path = folder / Index.open(folder).generation / f"shard-{row // 3:05d}" / name
    flip(
        path, SNOW[row].encode() if name == "passages.arrow" else Index.open(folder).vector(row).astype("<f2").tobytes()
    )
    return path


@pytest.mark.parametrize("name", ["passages.arrow", "vectors.npy"])
def test_damaged_files_are_not_copied(folder: Path, name: str) -> None:
    update_index(folder, delete=["doc0#0"], quiet=True)
    first = damaged(folder, name, 1)
    check_refusal(folder, first, lambda: compact_index(folder, quiet=True))
    last = damaged(folder, name, 6)
    new = [passage(9, "cloud")]
    check_refusal(folder, last, lambda: update_index(folder, WordEmbedder(), add=new, quiet=True))


def test_a_damaged_vector_is_not_reused(folder: Path) -> None:
    path = damaged(folder, "vectors.npy", 1)
    moved = replace(passage(1, SNOW[1]), metadata='{"page": 2}')
    check_refusal(folder, path, lambda: update_index(folder, WordEmbedder(), add=[moved], quiet=True))


@pytest.mark.parametrize("suffix", ["fast", "store"])
def test_sizes_that_would_end_the_process_are_checked(folder: Path, suffix: str) -> None:
    (path, *_) = (folder / "gen-0001").glob(f"**/*.{suffix}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
        Index.open(folder)


def test_damaged_passages_cause_no_crash(folder: Path) -> None:
    rng = random.Random(0)
    path = folder / "gen-0001" / "shard-00000" / "passages.arrow"
    content = path.read_bytes()
    messages = set()
    for at in rng.sample(range(len(content)), 400):
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        for read in (
            lambda index: Retriever(index, WordEmbedder()).search("snow 1", 7),
            lambda index: [*index.live_passages()],
            lambda index: [*index.passages([0, 2])],
            lambda index: [*index.entries()],
            lambda index: index.find(["doc1#0"]),
        ):
            try:
                read(Index.open(folder))
            except IndexFolderError as error:
                messages.add(str(error))
    assert len(messages) >= 2
    assert all(str(path.parent) in message for message in messages)


def test_rows_out_of_range_from_faiss_are_refused(tmp_path: Path) -> None:
    build(tmp_path, SNOW, faiss="IVF1,Flat", shard_size=100)
    path = tmp_path / "gen-0001" / "shard-00000" / "faiss.index"
    vectors = np.array(Index.open(tmp_path).shards[0].vectors)
    index = new_index("IVF1,Flat", vectors.shape[1])
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(7) + 1_000_000)
    write_faiss(index, path)
    with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
        Retriever(Index.open(tmp_path), WordEmbedder()).search("snow 1", 3, "dense")


@pytest.mark.parametrize(("number", "value"), [("M2", 64), ("bbs", 64), ("qb", 0), ("ntotal2", 1 << 20)])
def test_numbers_that_faiss_would_believe_are_refused(tmp_path: Path, number: str, value: int) -> None:
    build(tmp_path, SNOW, faiss="binary", shard_size=100)
    path = tmp_path / "gen-0001" / "shard-00000" / "faiss.index"
    index = open_faiss(path, Search())
    setattr(index, number, value)
    write_faiss(index, path)
    with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
        Index.open(tmp_path)
