"""Small indexes, interrupted builds, and a comparison of indexes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ragx.config import IndexSettings
from ragx.index import Index, build_index, verify
from ragx.index.vectors import as_float32
from tests.helpers.toy_embedders import WordEmbedder, passages

SNOW = [f"snow {n} reflects" for n in range(7)]
SOIL = [f"soil {n} absorbs" for n in range(5)]


def build(folder: Path, texts: list[str], embedder: WordEmbedder | None = None, **values: object) -> WordEmbedder:
    embedder = embedder or WordEmbedder()
    settings = IndexSettings.model_validate({"shard_size": 3, **values})
    build_index(passages(texts), folder, embedder, settings, quiet=True)
    return embedder


def texts_of(index: Index) -> list[str]:
    return [index.passage(row).text for row in range(len(index))]


def assert_same_index(folder: Path, other: Path, atol: float = 1e-6) -> None:
    """Check that two indexes are intact and have the same passages in the same shards, and close vectors."""
    verify(folder)
    verify(other)
    index, expected = Index.open(folder), Index.open(other)
    assert list(index.live_passages()) == list(expected.live_passages())
    assert index.deleted.tolist() == expected.deleted.tolist()
    for shard, expected_shard in zip(index.shards, expected.shards, strict=True):
        np.testing.assert_allclose(as_float32(shard.vectors), as_float32(expected_shard.vectors), atol=atol)


class Interrupted(WordEmbedder):
    """Interrupts the build after two shards."""

    def encode_passages(self, *arguments: object) -> np.ndarray:
        if self.encoded >= 6:
            raise KeyboardInterrupt
        return super().encode_passages(*arguments)  # type: ignore[arg-type]
