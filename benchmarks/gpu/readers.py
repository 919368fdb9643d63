"""The packed settings, and untrained readers of their shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from ragx_train.recipes.reader import ReaderSettings
from ragx_train.settings import ModelSettings

from ragx.cepe.fresh import fresh
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.models import resolve
from ragx.util.device import default_device
from ragx.util.settings import load_settings


def packed_settings(work: Path, overrides: Sequence[str] = ()) -> ReaderSettings:
    """The settings unpacked in `work`, with the data there."""
    settings = load_settings(ReaderSettings, work / "settings.yaml", overrides)
    folder = {"folder": str(work / "data")}
    texts, questions = settings.data.known_texts(), settings.data.questions
    data = {
        "texts": texts.model_copy(update=folder),
        "questions": None if questions is None else questions.model_copy(update=folder),
    }
    return settings.model_copy(update={"data": settings.data.model_copy(update=data)})


def model_settings(settings: ReaderSettings) -> ModelSettings:
    """The settings of a reader that starts from the decoder."""
    chosen = settings.model
    return ModelSettings(
        decoder=chosen.decoder,
        encoder_layers=chosen.encoder_layers,
        cross_attention_layers=chosen.cross_attention_layers,
        output_gain=chosen.output_gain,
    )


def fresh_reader(settings: ReaderSettings, dtype: torch.dtype) -> CepeModel:
    """A reader that starts from the decoder, on the fastest device."""
    chosen = settings.model
    return fresh(
        resolve(chosen.decoder, "decoder"),
        Placement(dtype, default_device()),
        encoder_layers=chosen.encoder_layers,
        cross_attention_layers=chosen.cross_attention_layers,
        output_gain=chosen.output_gain,
    )
