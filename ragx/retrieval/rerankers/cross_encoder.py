"""Any sentence-transformers cross-encoder as a reranker, computed by torch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.errors import ModelError
from ragx.retrieval.rerankers.base import DEPTH
from ragx.retrieval.rerankers.calibration import Calibration
from ragx.retrieval.tokenizer import read_text_as_text
from ragx.types import Passage, embedded_text
from ragx.util.terminal import quiet_transformers
from ragx.util.text import first_line

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

MAX_TOKENS = 256
"""Tokens of a question and a passage together; the longer of the two is cut."""


class CrossEncoderReranker:
    """A cross-encoder; its scores are logits, because probabilities near 1 become equal. Thread-safe."""

    depth = DEPTH
    order = 0.0

    def __init__(self, model: CrossEncoder, name: str, calibration: Calibration | None = None) -> None:
        """`model` from `load_cross_encoder`; its tokenizer is changed in place.

        Raises:
            ModelError: text could become a control token.
        """
        read_text_as_text(model.tokenizer)
        self.name, self.calibration = name, calibration
        self._model = model
        self._lock = threading.Lock()  # a fast tokenizer cannot be used by two threads at once

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        """A logit for each passage: (n,) float32."""
        from torch.nn import Identity

        pairs = [(question, embedded_text(passage)) for passage in passages]
        with self._lock:
            scores: np.ndarray = self._model.predict(pairs, activation_fn=Identity(), show_progress_bar=False)
        return scores


def load_cross_encoder(folder: Path, name: str, device: str) -> CrossEncoder:
    """Load a model from a local folder, in float32, to read at most `MAX_TOKENS`.

    Raises:
        ModelError: the folder is damaged or not a cross-encoder with one score.
    """
    import torch
    from sentence_transformers import CrossEncoder

    from ragx.cepe import weights

    try:
        with quiet_transformers():
            options = {"dtype": torch.float32}
            model: CrossEncoder = CrossEncoder(str(folder), device=device, local_files_only=True, model_kwargs=options)
        model.max_seq_length = min(model.max_seq_length or MAX_TOKENS, MAX_TOKENS)
        network: Any = model[0].auto_model
        labels = model.num_labels
        head = {key for key in network.state_dict() if not key.startswith(f"{network.base_model_prefix}.")}
    except Exception as error:  # a damaged folder can raise anything in the libraries that read it
        raise ModelError(f"cannot load reranker {name} from {folder}: {first_line(error)}") from error
    if lost := head - weights.shapes(folder).keys():  # transformers would make them up
        raise ModelError(f"{name} has no weight {min(lost)}")
    if labels != 1:
        raise ModelError(f"{name} classifies into {labels} classes; a reranker has one score")
    return model
