"""A BERT-like cross-encoder compiled for the CPU: ONNX Runtime computes it, in float32 and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragx.errors import ModelError
from ragx.onnx.batches import batches_of_similar_length, padded
from ragx.onnx.session import open_session
from ragx.retrieval.rerankers.base import DEPTH
from ragx.retrieval.rerankers.calibration import Calibration
from ragx.retrieval.tokenizer import plain_text_tokenizer
from ragx.types import Passage, embedded_text
from ragx.util.device import cpu_threads
from ragx.util.settings import Settings
from ragx.util.text import first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding

GRAPH, TOKENIZER, SETTINGS = "reranker.onnx", "tokenizer.json", "settings.json"


class CompiledSettings(Settings):
    """settings.json of a compiled cross-encoder: what its graph does not say."""

    window: int
    """Maximum number of tokens, special tokens included."""
    unknown: int | None
    """Id of the unknown token."""
    token_types: bool
    """Whether the encoder distinguishes the texts of a pair by token types."""


class CompiledCrossEncoder:
    """A compiled cross-encoder; its scores are logits. Thread-safe; each batch is computed by one thread."""

    depth = DEPTH
    order = 0.0

    def __init__(self, folder: Path, name: str, calibration: Calibration | None = None) -> None:
        """Open what `compile_cross_encoder` wrote into `folder`.

        Raises:
            ModelError: it cannot be read.
        """
        self.name, self.calibration = name, calibration
        try:
            self._settings = settings = CompiledSettings.model_validate_json((folder / SETTINGS).read_bytes())
            self._tokenizer = plain_text_tokenizer((folder / TOKENIZER).read_text("utf-8"), settings.unknown)
            self._tokenizer.enable_truncation(settings.window)  # of the longer text of a pair
            self._open = partial(open_session, folder / GRAPH, threads=1, fuse=False)
            self._session: InferenceSession | None = self._open()
        except Exception as error:  # tokenizers and ONNX Runtime raise many classes
            raise ModelError(f"cannot load reranker {name} from {folder}: {first_line(error)}") from error

    def free(self) -> None:
        """Free the graph's memory; it is opened again when it is needed."""
        self._session = None

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        """A logit for each passage: (n,) float32."""
        return self.score_texts(question, [embedded_text(passage) for passage in passages])

    def score_texts(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """A logit for each text: (n,) float32."""
        pairs = self._tokenizer.encode_batch([(question, text) for text in texts])
        scores = np.empty(len(texts), np.float32)

        def fill(rows: list[int]) -> None:
            scores[rows] = self._scores([pairs[row] for row in rows])

        list(self._workers.map(fill, batches_of_similar_length(list(map(len, pairs)))))
        return scores

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(cpu_threads(), "reranker")

    def _scores(self, pairs: Sequence[Encoding]) -> np.ndarray:
        """The scores of one batch."""
        inputs = {"ids": padded([pair.ids for pair in pairs]), "lengths": np.array(list(map(len, pairs)), np.int32)}
        if self._settings.token_types:
            inputs["types"] = padded([pair.type_ids for pair in pairs])
        session = self._session = self._session or self._open()
        scores: np.ndarray = session.run(None, inputs)[0][:, 0]
        return scores
