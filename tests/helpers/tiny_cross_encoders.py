"""Random cross-encoders, saved as transformers or sentence-transformers do, and stand-ins for rerankers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from tokenizers import processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from ragx.retrieval.rerankers.calibration import Calibration
from ragx.types import Passage
from tests.helpers.tiny_encoders import tokenizer, word_pieces


def pair_tokenizer(*, token_types: bool = True) -> PreTrainedTokenizerFast:
    """Of two texts with BERT's special tokens around them."""
    made = tokenizer(word_pieces())
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1" if token_types else "[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, made.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    if token_types:
        made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return made


def save_cross_encoder(folder: Path, kind: str = "bert", labels: int = 1, **options: Any) -> Path:
    """A cross-encoder of two layers, with a window of 64 tokens, whose scores differ clearly from pair to pair."""
    made = pair_tokenizer(token_types=kind == "bert")
    made.save_pretrained(folder)
    torch.manual_seed(0)
    settings = {
        "vocab_size": len(made), "pad_token_id": made.pad_token_id, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 66, "num_labels": labels,
    }  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **settings | options))
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at zero: make every weight matter
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def save_trained(folder: Path, embedder: Path, *, frozen: bool = True) -> Path:
    """A cross-encoder around an embedder as training leaves it: its embeddings unchanged, all else changed."""
    tokens = pair_tokenizer()
    model = AutoModelForSequenceClassification.from_pretrained(embedder, num_labels=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not (frozen and name.startswith("bert.embeddings.")):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    plain = folder.with_name(f"{folder.name}-plain")
    model.save_pretrained(plain)
    tokens.save_pretrained(plain)
    CrossEncoder(str(plain), device="cpu", local_files_only=True).save_pretrained(str(folder))
    return folder


def logits(folder: Path, question: str, texts: Sequence[str]) -> np.ndarray:
    """The scores of sentence-transformers itself, which reads no more than 64 tokens of these models."""
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True, max_length=64)
    scores: np.ndarray = model.predict(
        [(question, text) for text in texts], activation_fn=torch.nn.Identity(), show_progress_bar=False
    )
    return scores


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


class LengthReranker:
    """Scores a passage by the length of its text: longest first."""

    name = "longest"
    order = 0.0

    def __init__(self, depth: int = 20) -> None:
        self.depth = depth
        self.calibration: Calibration | None = None
        self.questions: list[str] = []

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        self.questions.append(question)
        return np.array([len(passage.text) for passage in passages], np.float32)


class FailingReranker(LengthReranker):
    """Fails as a model, library or server may."""

    name = "failing"

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        raise RuntimeError("out of luck\nat line 7")
