"""The teacher of `ceped`: the unmodified decoder, which reads context and text in one row (paper 2.4, A.3).

Its predictions can be stored in `$RAGX_HOME/teacher/<digest of decoder and number format>/`, one file for each text:

    <first 2 digits>/<digest of the tokens>.safetensors    ids (N, top) int32, probabilities (N, top) fp16
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ragx.cepe.model import CepeModel
from ragx.models import fingerprint
from ragx.util.files import durable_file, writing
from ragx.util.folders import cache_home
from ragx_train.data.example import IGNORE, Batch
from ragx_train.engine.losses import top_probabilities
from ragx_train.errors import OutputError

TeacherTopK = tuple[Tensor, Tensor]
"""Token ids (rows, top) and probabilities (rows, top), one row for each labelled token of a batch, in order."""
Teacher = Callable[[CepeModel, Batch], TeacherTopK]


@torch.no_grad()
def teach(model: CepeModel, batch: Batch, top: int) -> TeacherTopK:
    """The most likely next tokens after each labelled token, according to the decoder given `batch.before` too."""
    read = torch.cat([batch.before, batch.ids], dim=1)  # (B, T + N)
    hidden = model.model(input_ids=read, context=None, use_cache=False).last_hidden_state[:, batch.before.shape[1] :]
    return top_probabilities(hidden[batch.labels != IGNORE], model.lm_head.weight, top)


def on_the_fly(top: int) -> Teacher:
    """A teacher that predicts anew in every step."""
    return lambda model, batch: teach(model, batch, top)


def stored(top: int, decoder: Path, precision: Literal["bf16", "fp32"]) -> Teacher:
    """A teacher that predicts once for each text; later its predictions are read from disk.

    Files are named by the tokens of the text, so that changes of data, order or seed cannot mix up texts.

    Raises:
        OutputError: (the teacher) the predictions cannot be written.
    """
    identity = f"1 {fingerprint(decoder)} {precision} {top}"
    folder = cache_home() / "teacher" / hashlib.sha256(identity.encode()).hexdigest()[:32]

    def teacher(model: CepeModel, batch: Batch) -> TeacherTopK:
        files = [folder / key[:2] / f"{key}.safetensors" for key in _keys(batch)]
        texts = [text for text in map(_read, files) if text is not None]
        if len(texts) < len(files):
            counts = (batch.labels != IGNORE).sum(dim=1).tolist()
            ids, probabilities = teach(model, batch, top)
            texts = list(zip(ids.int().split(counts), probabilities.half().split(counts), strict=True))
            with writing(folder, OutputError):
                folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "LOCK"):  # in validation several devices may predict the same texts at once
                for file, text in zip(files, texts, strict=True):
                    _write(file, *text)
        device = batch.ids.device
        return torch.cat([ids for ids, _ in texts]).to(device), torch.cat([shares for _, shares in texts]).to(device)

    return teacher


def _keys(batch: Batch) -> list[str]:
    before = batch.before.shape[1]
    rows = torch.cat([batch.before, batch.ids, batch.labels], dim=1).cpu().numpy()
    return [hashlib.sha256(f"{before} ".encode() + row.tobytes()).hexdigest()[:32] for row in rows]


def _read(file: Path) -> TeacherTopK | None:
    try:
        tensors = load_file(file)  # memory-mapped
        return tensors["ids"], tensors["probabilities"]
    except (FileNotFoundError, KeyError, SafetensorError):  # missing or damaged: to be replaced
        return None


def _write(file: Path, ids: Tensor, probabilities: Tensor) -> None:
    with writing(file, OutputError):
        file.parent.mkdir(exist_ok=True)
    with durable_file(file, OutputError) as draft:
        draft.write(save({"ids": ids.cpu().contiguous(), "probabilities": probabilities.cpu().contiguous()}))
