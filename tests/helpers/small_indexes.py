"""Small indexes: whole ones, and builds that stop on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ragx.config import IndexSettings
from ragx.index import Index, build_index
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


class Interrupted(WordEmbedder):
    """Stops after two shards."""

    def encode_passages(self, *arguments: object) -> np.ndarray:
        if self.encoded >= 6:
            raise KeyboardInterrupt
        return super().encode_passages(*arguments)  # type: ignore[arg-type]
