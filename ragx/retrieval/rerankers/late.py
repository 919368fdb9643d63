"""Late interaction: every token of a question finds its best match among a passage's tokens (ColBERT's MaxSim).

A token's vector is the last state of a reader's encoder. The reader keeps these on disk for all passages it has read,
so that only the question is encoded; a small trained projection makes questions and passages comparable.

late.safetensors, beside the reader's weights   mean, matrix, importance, scale, order: a `Projection`
                                                probe: the encoder's states of `PROBE`, which tell it from another one
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from ragx.errors import ModelError
from ragx.models.check import PROJECTION
from ragx.retrieval.rerankers.base import DEPTH
from ragx.retrieval.rerankers.calibration import Calibration
from ragx.types import Passage
from ragx.util.files import durable_file
from ragx.util.text import first_line

PROBE = "In 1968, two engineers from Kyoto measured how much light fresh snow reflects."
_SAME_ENCODER = 0.25
"""Largest relative difference of the probe's states; int8 weights change them by a few hundredths."""


class TokenEncoder(Protocol):
    """A reader's encoder, and the encodings that the reader keeps."""

    def encode_text(self, text: str) -> np.ndarray:
        """The states of a text's tokens, (L, E) float32."""

    def encode_all(self, passages: Sequence[Passage]) -> tuple[np.ndarray, list[int]]:
        """The states of the passages' tokens, (M, E) float32, and the number of each passage's."""


@dataclass(frozen=True)
class Projection:
    """What is trained."""

    mean: np.ndarray
    """(E,), subtracted from every state."""
    matrix: np.ndarray
    """(E, D); projected states are normalized."""
    importance: np.ndarray
    """(E,): the softmax of its products with a question's centred states weighs the question's tokens."""
    scale: float
    """Factor of the scores."""
    order: float
    """Weight of the search's order (`Reranker.order`)."""

    def passage(self, states: np.ndarray) -> np.ndarray:
        """Unit vectors (M, D) of states (M, E)."""
        vectors: np.ndarray = (states - self.mean) @ self.matrix
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
        return vectors

    def question(self, states: np.ndarray) -> np.ndarray:
        """Vectors (L, D) of a question's states (L, E), as long as their tokens count."""
        logits = (states - self.mean) @ self.importance
        weights = np.exp(logits - logits.max(initial=-np.inf))
        vectors: np.ndarray = self.passage(states) * (self.scale * weights / max(weights.sum(), 1e-30))[:, None]
        return vectors


class LateReranker:
    """Orders hits by the encodings that a reader keeps of them. Thread-safe if the encoder is."""

    depth = DEPTH
    calibration: Calibration | None = None

    def __init__(self, name: str, projection: Projection, encoder: TokenEncoder) -> None:
        """`encoder` must be the one that `projection` was trained with (`load_projection`)."""
        self.name, self.order = name, projection.order
        self._projection, self._encoder = projection, encoder

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        """The sum over the question's tokens of their best match in each passage: (n,) float32."""
        vectors = self._projection.question(self._encoder.encode_text(question))
        states, lengths = self._encoder.encode_all(passages)
        return max_sim(vectors, self._projection.passage(states), lengths)


def max_sim(question: np.ndarray, tokens: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """For each passage, the sum over a question's tokens of the largest product with one of the passage's.

    Args:
        question: (L, D).
        tokens: (M, D), those of all passages one after another.
        lengths: the number of tokens of each passage. A passage without tokens scores below all others.

    Returns:
        (K,) float32.
    """
    starts = [start for start, length in zip(accumulate(lengths, initial=0), lengths, strict=False) if length]
    scores = np.full(len(lengths), -np.linalg.norm(question, axis=1).sum(), np.float32)
    if starts:
        best = np.maximum.reduceat(question @ tokens.T, starts, axis=1)  # (L, passages with tokens)
        scores[np.array(lengths) > 0] = best.sum(axis=0)
    return scores


def save_projection(folder: Path, projection: Projection, encoder: TokenEncoder) -> None:
    """Write `PROJECTION` into a folder.

    Raises:
        IndexFolderError: it cannot be written.
    """
    from safetensors.numpy import save

    tensors = {name: np.asarray(value, np.float16) for name, value in vars(projection).items()}
    tensors["probe"] = encoder.encode_text(PROBE).astype(np.float16)
    with durable_file(folder / PROJECTION) as file:
        file.write(save(tensors))


def load_projection(folder: Path, name: str, encoder: TokenEncoder) -> Projection:
    """The projection beside the weights of a reader.

    Raises:
        ModelError: there is none, it is damaged, or it was trained with another encoder.
    """
    from safetensors.numpy import load

    path = folder / PROJECTION
    if not path.is_file():
        raise ModelError(f"{name} has no {PROJECTION}: train it with `ragx train reranker --kind late`")
    try:
        values = {key: tensor.astype(np.float32) for key, tensor in load(path.read_bytes()).items()}
        probe = values.pop("probe")
        scale, order = float(values.pop("scale")), float(values.pop("order"))
        projection = Projection(scale=scale, order=order, **values)
        width, known = len(projection.mean), encoder.encode_text(PROBE)
        if projection.matrix.shape[:1] != (width,) or projection.importance.shape != (width,):
            raise ValueError("its shapes do not match")
    except Exception as error:  # safetensors raises many classes for a damaged file
        raise ModelError(f"{path} is damaged: {first_line(error)}") from None
    if known.shape != probe.shape or not _close(known, probe, projection.mean):
        raise ModelError(f"{path} was trained with another encoder than {name}'s: train it again")
    return projection


def _close(known: np.ndarray, probe: np.ndarray, mean: np.ndarray) -> bool:
    return bool(np.linalg.norm(known - probe) <= _SAME_ENCODER * np.linalg.norm(probe - mean))
