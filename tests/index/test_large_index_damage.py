"""Damage in an index that is too large to be read whenever it is opened: never sealed by a writer, never a crash."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ragx.errors import IndexFolderError
from ragx.index import Index, compact_index, update_index, verify
from ragx.index.dense import new_index, write_faiss
from ragx.retrieval import Retriever
from tests.helpers.small_indexes import SNOW, build
from tests.helpers.toy_embedders import WordEmbedder, passage

pytestmark = pytest.mark.usefixtures("unread_when_opened")


def flip(path: Path, what: bytes) -> None:
    """Make a byte of `what`, which the file holds, another letter."""
    whole = bytearray(path.read_bytes())
    at = whole.index(what)
    whole[at] ^= 1
    path.write_bytes(whole)


def sealed_by_nobody(folder: Path, path: Path, write: Callable[[], object]) -> None:
    for _ in range(2):
        with pytest.raises(IndexFolderError, match=f"{path} is damaged: its SHA-256 is not the manifest's"):
            write()
    with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
        verify(folder)
    assert (folder / "CURRENT").read_text() == f"{path.parents[1].name}\n"


def damaged(folder: Path, name: str, row: int) -> Path:
    """A file of the shard of three passages that holds a row, after a flip in what it holds of that row."""
    path = folder / Index.open(folder).generation / f"shard-{row // 3:05d}" / name
    flip(path, SNOW[row].encode() if name == "passages.arrow" else Index.open(folder).vector(row).tobytes())
    return path


@pytest.mark.parametrize("name", ["passages.arrow", "vectors.npy"])
def test_damage_to_what_is_moved_is_named_and_nothing_is_published(folder: Path, name: str) -> None:
    update_index(folder, delete=["doc0#0"], quiet=True)
    compacted = damaged(folder, name, 1)
    sealed_by_nobody(folder, compacted, lambda: compact_index(folder, quiet=True))
    appended_to = damaged(folder, name, 6)
    new = [passage(9, "cloud")]
    sealed_by_nobody(folder, appended_to, lambda: update_index(folder, WordEmbedder(), add=new, quiet=True))


def test_a_damaged_vector_is_not_taken_for_that_of_a_text_that_moved(folder: Path) -> None:
    path = damaged(folder, "vectors.npy", 1)
    moved = replace(passage(1, SNOW[1]), metadata='{"page": 2}')
    sealed_by_nobody(folder, path, lambda: update_index(folder, WordEmbedder(), add=[moved], quiet=True))


def test_damaged_passages_give_a_line_or_another_text_and_end_no_process(folder: Path) -> None:
    rng = random.Random(0)
    path = folder / "gen-0001" / "shard-00000" / "passages.arrow"
    whole = path.read_bytes()
    said = set()
    for at in rng.sample(range(len(whole)), 400):
        damaged = bytearray(whole)
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
                said.add(str(error))
    assert len(said) >= 2
    assert all(str(path) in each or f"the files of {path.parent} do not belong together" in each for each in said)


def test_a_row_that_faiss_makes_up_is_named(tmp_path: Path) -> None:
    build(tmp_path, SNOW, faiss="IVF1,Flat", shard_size=100)
    path = tmp_path / "gen-0001" / "shard-00000" / "faiss.index"
    vectors = np.array(Index.open(tmp_path).shards[0].vectors)
    index = new_index("IVF1,Flat", vectors.shape[1])
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(7) + 1_000_000)
    write_faiss(index, path)
    with pytest.raises(IndexFolderError, match=f"{path} is damaged: run `ragx index repair`"):
        Retriever(Index.open(tmp_path), WordEmbedder()).search("snow 1", 3, "dense")
