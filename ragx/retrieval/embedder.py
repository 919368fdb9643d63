"""TextEmbedder: passages and questions to vectors, with any sentence-transformers model (Contriever included)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx import models
from ragx.corpus.chunking import token_spans, windows
from ragx.errors import ModelError
from ragx.retrieval.tokenizer import read_text_as_text
from ragx.types import Passage, embedded_text
from ragx.util.device import default_device, default_dtype, parse_dtype, usable_device
from ragx.util.terminal import quiet_transformers
from ragx.util.text import first_line

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

BATCH = 32
PASSAGES_PER_CALL = 256
"""Passages sorted by length and batched together; progress is reported after each call."""


class TextEmbedder:
    """A sentence-transformers model. Safe to share between threads."""

    def __init__(self, model: SentenceTransformer, name: str, fingerprint: str) -> None:
        """Use `TextEmbedder.load`."""
        self.name = name
        self.fingerprint = fingerprint
        self.dimension: int = model.encode("").shape[0]
        self._model = model
        self._lock = threading.Lock()  # a fast tokenizer cannot be used by two threads at once

    @classmethod
    def load(
        cls, folder: Path, *, name: str, fingerprint: str, device: str | None = None, dtype: torch.dtype | None = None
    ) -> TextEmbedder:
        """Load a model from a local folder; a plain transformers model gets mean pooling.

        The transformer computes in `dtype` (default: the fastest on the device), pooling and later modules in
        float32: a normalised vector rounded to bfloat16 is up to 0.4% longer or shorter than 1.

        Raises:
            ModelError: the folder is missing, damaged or not an embedder.
        """
        from sentence_transformers import SentenceTransformer

        if not folder.is_dir():
            raise ModelError(f"no embedder at {folder}")
        device = device or default_device()
        try:
            with quiet_transformers():
                model = SentenceTransformer(
                    str(folder),
                    device=device,
                    local_files_only=True,
                    model_kwargs={"dtype": dtype or default_dtype(device)},
                )
            for module in list(model)[1:]:
                module.float()
            model[0].register_forward_hook(_float32_output)
            read_text_as_text(model.tokenizer)
            return cls(model, name, fingerprint)
        except Exception as error:  # a damaged folder can raise anything in the libraries that read it
            raise ModelError(f"cannot load embedder {name} from {folder}: {first_line(error)}") from error

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer; it reads control strings in a text as plain text."""
        tokenizer: PreTrainedTokenizerBase = self._model.tokenizer
        return tokenizer

    def encode_passages(
        self, passages: Sequence[Passage], on_progress: Callable[[int], object] = lambda _: None
    ) -> np.ndarray:
        """Encode titles and texts: (n, d) float32. `on_progress` gets the number of passages just done."""
        return self.embed_texts([embedded_text(passage) for passage in passages], on_progress)

    def embed_texts(self, texts: Sequence[str], on_progress: Callable[[int], object] = lambda _: None) -> np.ndarray:
        """Encode texts as passages without titles: (n, d) float32. `on_progress` gets the number just done.

        A text longer than the model reads has the mean of the vectors of its windows, weighted by their characters, and
        scaled to their mean length.
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), PASSAGES_PER_CALL):
            part = texts[start : start + PASSAGES_PER_CALL]
            pieces = [self._pieces(text) for text in part]
            with self._lock:
                encoded: np.ndarray = self._model.encode_document(
                    list(chain.from_iterable(pieces)), batch_size=BATCH, show_progress_bar=False
                )
            ends = np.cumsum([len(each) for each in pieces])
            for row, of_text in enumerate(np.split(encoded, ends[:-1]), start=start):
                lengths = list(map(len, pieces[row - start]))
                vectors[row] = of_text[0] if len(of_text) == 1 else _mean(of_text, lengths)
            on_progress(len(part))
        return vectors

    @property
    def window(self) -> int | None:
        """Maximum number of tokens of a text that the model reads, special tokens included; None: any number."""
        return self._model.max_seq_length

    def _pieces(self, text: str) -> list[str]:
        """The text in windows that the model reads whole."""
        window = self.window
        if window is None or len(text) < window:  # a token has at least one character
            return [text]
        with self._lock:
            special = self.tokenizer.num_special_tokens_to_add()
            spans = list(token_spans(text, self.tokenizer))
        return [text[start:end] for start, end in windows(iter(spans), window - special, 0)] or [text]

    def encode_question(self, question: str) -> np.ndarray:
        """Encode a question: (d,) float32."""
        with self._lock:
            vector: np.ndarray = self._model.encode_query(question, show_progress_bar=False)
        return vector


def _mean(vectors: np.ndarray, weights: Sequence[int]) -> np.ndarray:
    """The mean of vectors, (n, d), scaled to their mean length, so that normalised vectors give a normalised one."""
    mean: np.ndarray = np.average(vectors, axis=0, weights=weights)
    length = np.linalg.norm(mean)
    return mean * (np.linalg.norm(vectors, axis=1).mean() / length) if length else mean


def open_embedder(name: str, device: str | None = None, dtype: str | torch.dtype | None = None) -> TextEmbedder:
    """The embedder of this name: a registered name, a folder or a Hub id.

    Raises:
        ModelError: it is missing or unusable.
        ConfigError: there is no such device or number format.
    """
    device = usable_device(device)
    folder = models.resolve(name, "embedder")
    return TextEmbedder.load(
        folder, name=name, fingerprint=models.fingerprint(folder), device=device, dtype=parse_dtype(dtype, device)
    )


def _float32_output(_module: object, _inputs: object, features: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {
        key: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in features.items()
    }
