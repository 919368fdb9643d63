"""The teacher of `ceped`: the untouched decoder, which reads context and text in one row (paper 2.4, A.3).

What it says may be kept under `$RAGX_HOME/teacher/<digest of decoder and number format>/`, in one file for each text:

    <first 2 digits>/<digest of the tokens>.safetensors    ids (N, top) int32, probabilities (N, top) fp16
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ragx.cepe.model import CepeModel
from ragx.errors import RagxError
from ragx.models import fingerprint
from ragx.util.folders import cache_home
from ragx_train.data.example import IGNORE, Batch
from ragx_train.engine.losses import top_probabilities

TeacherTopK = tuple[Tensor, Tensor]
"""Token ids (rows, top) and probabilities (rows, top), a row for each labelled token of a batch, in its order."""
Teacher = Callable[[CepeModel, Batch], TeacherTopK]


@torch.no_grad()
def teach(model: CepeModel, batch: Batch, top: int) -> TeacherTopK:
    """What the decoder, having read `batch.before` too, deems likeliest to follow each labelled token."""
    read = torch.cat([batch.before, batch.ids], dim=1)  # (B, T + N)
    hidden = model.model(input_ids=read, context=None, use_cache=False).last_hidden_state[:, batch.before.shape[1] :]
    return top_probabilities(hidden[batch.labels != IGNORE], model.lm_head.weight, top)


def on_the_fly(top: int) -> Teacher:
    """A teacher that is asked anew in every step."""
    return lambda model, batch: teach(model, batch, top)


def stored(top: int, decoder: Path, precision: Literal["bf16", "fp32"]) -> Teacher:
    """A teacher that is asked once for each text, and read from the disk from then on.

    A text is known by its tokens, so that no change of data, order or seed can give it another one's answer.
    """
    said = f"1 {fingerprint(decoder)} {precision} {top}"
    folder = cache_home() / "teacher" / hashlib.sha256(said.encode()).hexdigest()[:32]

    def teacher(model: CepeModel, batch: Batch) -> TeacherTopK:
        files = [folder / key[:2] / f"{key}.safetensors" for key in _keys(batch)]
        kept = [each for each in map(_read, files) if each is not None]
        if len(kept) < len(files):
            counts = (batch.labels != IGNORE).sum(dim=1).tolist()
            ids, probabilities = teach(model, batch, top)
            kept = list(zip(ids.int().split(counts), probabilities.half().split(counts), strict=True))
            for file, opinion in zip(files, kept, strict=True):
                _write(file, *opinion)
        device = batch.ids.device
        return torch.cat([ids for ids, _ in kept]).to(device), torch.cat([shares for _, shares in kept]).to(device)

    return teacher


def _keys(batch: Batch) -> list[str]:
    before = batch.before.shape[1]
    rows = torch.cat([batch.before, batch.ids, batch.labels], dim=1).cpu().numpy()
    return [hashlib.sha256(f"{before} ".encode() + row.tobytes()).hexdigest()[:32] for row in rows]


def _read(file: Path) -> TeacherTopK | None:
    try:
        kept = load_file(file)  # maps it into memory
        return kept["ids"], kept["probabilities"]
    except (OSError, KeyError, SafetensorError):  # not there, or damaged: it is made anew
        return None


def _write(file: Path, ids: Tensor, probabilities: Tensor) -> None:
    draft = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"ids": ids.cpu().contiguous(), "probabilities": probabilities.cpu().contiguous()}, draft)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(file)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise RagxError(f"cannot store what the teacher says in {file.parent}: {error}") from None
