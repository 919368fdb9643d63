"""Any sentence-transformers model as an embedder, computed by torch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.errors import ModelError
from ragx.retrieval.embedder import TextEmbedder
from ragx.retrieval.tokenizer import plain_text_tokenizer, read_text_as_text
from ragx.util.terminal import quiet_transformers
from ragx.util.text import first_line

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

BATCH = 32


class SentenceTransformerEmbedder(TextEmbedder):
    """A sentence-transformers model (Contriever included)."""

    def __init__(self, model: SentenceTransformer, name: str, fingerprint: str) -> None:
        """`model` from `load_sentence_transformer`; its tokenizer is changed in place.

        The transformer computes in its own number format, pooling and later modules in float32: a normalised vector
        rounded to bfloat16 is up to 0.4% longer or shorter than 1.

        Raises:
            ModelError: it is not an embedder, or text could become a control token.
        """
        try:
            for module in list(model)[1:]:
                module.float()
            model[0].register_forward_hook(_float32_output)
            backend = getattr(model.tokenizer, "backend_tokenizer", None)  # fast tokenizers have one
            plain = backend and plain_text_tokenizer(backend.to_str(), model.tokenizer.unk_token_id)
            read_text_as_text(model.tokenizer)
            dimension, window = model.encode("").shape[0], model.max_seq_length
            super().__init__(name, fingerprint, dimension=dimension, window=window, tokenizer=plain)
        except Exception as error:  # a damaged model can raise anything
            raise ModelError(f"cannot load embedder {name}: {first_line(error)}") from error
        self._model = model
        self._lock = threading.Lock()  # a fast tokenizer cannot be used by two threads at once

    def encode_question(self, question: str) -> np.ndarray:
        """Encode a question: (d,) float32."""
        with self._lock:
            vector: np.ndarray = self._model.encode_query(question, show_progress_bar=False)
        return vector

    def encode_whole(self, texts: Sequence[str]) -> np.ndarray:
        with self._lock:
            vectors: np.ndarray = self._model.encode_document(list(texts), batch_size=BATCH, show_progress_bar=False)
        return vectors


def load_sentence_transformer(folder: Path, name: str, device: str, dtype: torch.dtype) -> SentenceTransformer:
    """Load a model from a local folder; a plain transformers model gets mean pooling.

    Raises:
        ModelError: the folder is missing, damaged or not an embedder.
    """
    from sentence_transformers import SentenceTransformer

    if not folder.is_dir():
        raise ModelError(f"no embedder at {folder}")
    try:
        with quiet_transformers():
            return SentenceTransformer(str(folder), device=device, local_files_only=True, model_kwargs={"dtype": dtype})
    except Exception as error:  # a damaged folder can raise anything in the libraries that read it
        raise ModelError(f"cannot load embedder {name} from {folder}: {first_line(error)}") from error


def _float32_output(_module: object, _inputs: object, features: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {
        key: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in features.items()
    }
