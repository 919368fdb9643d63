"""CEPED: distil the decoder that reads context and text in one row (paper 2.4, A.3).

The teacher is the unmodified decoder on concat(C, X), with C unmasked. The student has C in the encoder and X in the
decoder, as in `cepe`, and learns both the text and the teacher's predictions.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator

from ragx.cepe.model import CepeModel
from ragx.models import resolve
from ragx.util.settings import Settings
from ragx_train.data.documents import open_corpus
from ragx_train.data.example import IGNORE, Batch
from ragx_train.engine.loop import Run, train
from ragx_train.engine.losses import Losses, cross_entropy, labelled_states, top_kl
from ragx_train.engine.model import reader_to_train
from ragx_train.engine.step import Loss
from ragx_train.engine.teacher import Teacher, on_the_fly, stored
from ragx_train.recipes.cepe import CepeSettings, examples


class TeacherSettings(Settings):
    """What the teacher predicts, and whether it is stored."""

    top: int = Field(default=50, ge=1)
    """Number of most likely tokens for each position."""
    store: bool = False
    """Store predictions for later epochs and runs, 6 bytes for each of the `top` tokens."""


class CepedSettings(CepeSettings):
    """`ragx train ceped`."""

    encoder_tokens: int = Field(default=2048, ge=1)
    decoder_tokens: int = Field(default=2048, ge=2)
    kl: float = Field(default=2.0, ge=0)
    """Coefficient of the KL divergence from the teacher; 0 and 1 are ablations (paper Table 14)."""
    cross_entropy: float = Field(default=1.0, ge=0)
    """Coefficient of the cross-entropy."""
    teacher: TeacherSettings = TeacherSettings()

    @model_validator(mode="after")
    def _there_is_a_loss(self) -> CepedSettings:
        if not self.kl and not self.cross_entropy:
            raise ValueError("kl and cross_entropy cannot both be 0")
        return self


def run(settings: CepedSettings, run: Run) -> None:
    """Train a reader to predict with passages in the encoder what its decoder predicts with them in the prompt."""
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    corpus = open_corpus(settings.data, tokenizer)
    example, validation = examples(settings, corpus, tokenizer)
    if settings.teacher.store:
        teacher = stored(settings.teacher.top, resolve(settings.model.decoder, "decoder"), settings.loop.precision)
    else:
        teacher = on_the_fly(settings.teacher.top)
    fingerprint = {"data.sources": corpus.fingerprint()}
    train(settings, run, model, example, validation, fingerprint, distillation(settings, teacher))


def distillation(settings: CepedSettings, teacher: Teacher) -> Loss:
    """The loss: KL divergence and cross-entropy, weighted; its parts are unweighted.

    In validation the loss is the cross-entropy alone, which is comparable between recipes and coefficients.
    """

    def loss(model: CepeModel, batch: Batch) -> Losses:
        coefficients = {"cross_entropy": settings.cross_entropy, "kl": settings.kl}
        if not model.training:
            coefficients = {"cross_entropy": 1.0, "kl": 0.0}
        states, weight = labelled_states(model, batch), model.lm_head.weight  # (rows, W), (V, W)
        parts: Losses = {}
        if coefficients["cross_entropy"]:
            parts["cross_entropy"] = cross_entropy(states, weight, batch.labels[batch.labels != IGNORE])
        if settings.kl:
            parts["kl"] = top_kl(states, weight, *teacher(model, batch))
        total = torch.stack([coefficients[name] * part for name, part in parts.items()]).sum()
        return {"loss": total} | {name: part.detach() for name, part in parts.items()}

    return loss
