"""Slow and broken embedders and readers, which leave a file for each call in a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np

from ragx import cepe
from ragx.cepe.context import Context
from ragx.cepe.model import CepeModel
from ragx.types import Passage
from tests.helpers.toy_embedders import WordEmbedder


class SlowEmbedder(WordEmbedder):
    """A slow WordEmbedder that creates a file in `folder`, named after its process, for each call."""

    def __init__(self, folder: str, seconds: float) -> None:
        super().__init__()
        self.folder, self.seconds = Path(folder), seconds

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        (self.folder / f"{os.getpid()}-{uuid4().hex}").touch()
        time.sleep(self.seconds)
        return super().encode_passages(passages, on_progress)


class BrokenEmbedder(WordEmbedder):
    """Returns vectors that are not finite."""

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        return np.full((len(passages), self.dimension), np.nan, np.float32)


def other_embedder() -> WordEmbedder:
    return WordEmbedder("x" * 64)


def slow_reader(folder: str, seen: str, seconds: float) -> CepeModel:
    """A slow reader that creates a file in `seen`, named after its process, whenever it encodes."""
    model = cepe.load(folder, dtype="float32", device="cpu")
    encode = model.encode_passages

    def slow(passages: Sequence[Sequence[int]]) -> Context:
        (Path(seen) / f"{os.getpid()}-{uuid4().hex}").touch()
        time.sleep(seconds)
        return encode(passages)

    model.encode_passages = slow  # type: ignore[method-assign]
    return model
