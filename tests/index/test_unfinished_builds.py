"""An interrupted build continues where it stopped, and a failed build changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ragx.errors import ConfigError, CorpusError, IndexFolderError, ModelError
from ragx.index import Index, verify
from ragx.retrieval import Retriever
from tests.helpers.small_indexes import SNOW, Interrupted, build, texts_of
from tests.helpers.toy_embedders import WordEmbedder, passages


def test_an_unfinished_build_is_not_an_index(unfinished: Path) -> None:
    with pytest.raises(IndexFolderError, match="did not finish"):
        Index.open(unfinished)


def test_finished_shards_are_not_embedded_again(unfinished: Path) -> None:
    assert build(unfinished, SNOW).encoded == 1
    assert texts_of(Index.open(unfinished)) == SNOW


def test_only_shards_whose_passages_changed_are_embedded_again(unfinished: Path) -> None:
    changed = [*SNOW[:3], "cloud", *SNOW[4:]]
    assert build(unfinished, changed).encoded == 4
    index = Index.open(unfinished)
    assert texts_of(index) == changed
    expected = WordEmbedder().encode_passages(passages(changed), lambda _: None)
    assert np.array_equal(np.concatenate([shard.vectors for shard in index.shards]), expected.astype(np.float16))


def test_a_smaller_corpus_drops_surplus_shards(unfinished: Path) -> None:
    assert build(unfinished, SNOW[:2]).encoded == 2
    assert texts_of(Index.open(unfinished)) == SNOW[:2]
    assert [path.name for path in (unfinished / "gen-0001").glob("shard-*")] == ["shard-00000"]


def test_another_embedder_or_shard_size_starts_over(unfinished: Path) -> None:
    assert build(unfinished, SNOW, WordEmbedder(fingerprint="x" * 64)).encoded == len(SNOW)
    with pytest.raises(KeyboardInterrupt):
        build(unfinished, SNOW, Interrupted())
    assert build(unfinished, SNOW, shard_size=2).encoded == len(SNOW)


def test_another_kind_of_faiss_index_keeps_the_vectors(unfinished: Path) -> None:
    assert build(unfinished, SNOW, faiss="HNSW8").encoded == 1
    index = Index.open(unfinished)
    assert {type(shard.faiss).__name__ for shard in index.shards} == {"IndexHNSWFlat"}
    assert Retriever(index, WordEmbedder()).search("snow 4 reflects", 1, "dense")[0].passage.text == SNOW[4]


@pytest.mark.parametrize("name", ["vectors.npy", "faiss.index"])
def test_a_damaged_file_of_an_unfinished_build_is_rebuilt(unfinished: Path, name: str) -> None:
    path = unfinished / "gen-building" / "shard-00000" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert build(unfinished, SNOW).encoded == (4 if name == "vectors.npy" else 1)
    verify(unfinished)
    assert (unfinished / "gen-0001" / "shard-00000" / name).read_bytes() == content


def test_a_truncated_file_of_an_unfinished_build_is_rebuilt(unfinished: Path) -> None:
    os.truncate(unfinished / "gen-building" / "shard-00000" / "vectors.npy", 10)
    assert build(unfinished, SNOW).encoded == 4
    verify(unfinished)


def test_too_few_passages_for_another_faiss_index_loses_nothing(unfinished: Path) -> None:
    with pytest.raises(ConfigError, match="use Flat"):
        build(unfinished, SNOW, faiss="IVF100,Flat")
    assert build(unfinished, SNOW).encoded == 1


def test_an_empty_corpus_leaves_no_unfinished_build(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no passages"):
        build(tmp_path, [])
    assert not (tmp_path / "gen-building").exists()


def test_a_passage_that_is_not_valid_unicode_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="'doc1#0' is not valid Unicode"):
        build(tmp_path, ["fine", "bro\ud800ken"])


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Overflowing(WordEmbedder):
        def encode_question(self, question: str) -> np.ndarray:
            return super().encode_question(question) * np.float32(np.inf if "4" in question else 1)

    with pytest.raises(ModelError, match="not finite"):
        build(tmp_path, SNOW, Overflowing())
