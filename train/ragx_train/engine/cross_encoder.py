"""A cross-encoder: an embedder's transformer with a score for a question and a passage, and its loss and validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.evaluation import BaseEvaluator
from torch import Tensor, nn

from ragx.errors import ModelError
from ragx.retrieval.tokenizer import read_text_as_text
from ragx.util.device import has_gpu
from ragx.util.terminal import quiet_transformers
from ragx.util.text import first_line
from ragx_train.data.ranking import Ranking

PAIRS = 16
"""Pairs of a question and a passage that are computed at once."""
CUTOFFS = (1, 3, 5)


def fresh_cross_encoder(folder: Path, max_tokens: int) -> CrossEncoder:
    """The transformer of an embedder with a new one-logit head; its embedding tables are frozen.

    There is no dropout, because training ends within few epochs. On a CPU, attention is computed by matrix products:
    with the fused kernel, training takes 1.6 times as long there.

    Raises:
        ModelError: the folder holds no transformer that can be a cross-encoder.
    """
    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    try:
        with quiet_transformers():
            model: CrossEncoder = CrossEncoder(
                str(folder),
                num_labels=1,
                max_length=max_tokens,
                local_files_only=True,
                config_kwargs=options,
                model_kwargs={} if has_gpu() else {"attn_implementation": "eager"},
            )
        read_text_as_text(model.tokenizer)
        transformer: Any = model[0].model
        transformer.base_model.embeddings.requires_grad_(False)
    except Exception as error:  # a folder of another kind can raise anything in the libraries that read it
        raise ModelError(f"{folder} cannot become a cross-encoder: {first_line(error)}") from error
    return model


class ListwiseLoss(nn.Module):
    """Cross-entropy of the first passage among all of a question's.

    Pairs of similar length are computed together, so there is little padding. sentence-transformers' own losses take
    them as they come.
    """

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, columns: Sequence[Sequence[Any]], labels: object = None, prompt: object = None, task: object = None
    ) -> Tensor:
        """The mean over questions of `columns`: questions, and lists of passages."""
        questions, passages = columns
        pairs = [(question, text) for question, texts in zip(questions, passages, strict=True) for text in texts]
        scores = pair_scores(self.model, pairs).split([len(texts) for texts in passages])
        return torch.stack([-of_question.log_softmax(0)[0] for of_question in scores]).mean()


class AnswersFound(BaseEvaluator):
    """The percentage of held-out questions with an answer in the best passages, by hybrid search and reranked."""

    def __init__(self, ranking: Ranking, questions: int, *, bf16: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ranking = ranking
        self._questions = ranking.held_out[:: max(1, len(ranking.held_out) // questions)][:questions]
        self._bf16 = bf16
        self.primary_metric = "answer_in_3"

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """The percentages by name."""
        found = []
        for each in self._questions:
            pairs = [(each.question, self._ranking.text(row)) for row in each.ranking]
            with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=self._bf16):
                order = pair_scores(model, pairs).argsort(descending=True, stable=True).tolist()
            found.append([each.answered[place] for place in order])
        before = answered([each.answered for each in self._questions])
        return answered(found) | {f"hybrid_{name}": value for name, value in before.items()}


def answered(found: Sequence[Sequence[bool]]) -> dict[str, float]:
    """Percent of questions with a true value among the first 1, 3 and 5."""
    return {f"answer_in_{cutoff}": 100 * sum(any(flags[:cutoff]) for flags in found) / len(found) for cutoff in CUTOFFS}


def pair_scores(model: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> Tensor:
    """A logit for each pair of a question and a passage: (pairs,) float32."""
    order = sorted(range(len(pairs)), key=lambda place: len(pairs[place][0]) + len(pairs[place][1]))
    parts = []
    for start in range(0, len(order), PAIRS):
        features = model.preprocess([pairs[place] for place in order[start : start + PAIRS]])
        features = {name: value.to(model.device) for name, value in features.items() if isinstance(value, Tensor)}
        parts.append(cast("Tensor", model(features)["scores"]).view(-1).float())
    scores = torch.cat(parts)
    return scores[torch.tensor(order).argsort()]
