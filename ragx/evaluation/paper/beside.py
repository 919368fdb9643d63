"""Passages beside a prompt: in the encoder or, for `extensible`, as embeddings before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ragx.engine.prefix import Prefix
from ragx.extensible.embedder import divided, embed
from ragx.reader.base import PreparedPrompt

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.reader.prompt import Prompt


def beside(
    model: CepeModel,
    prompt: Prompt,
    passages: Sequence[list[int]],
    ratio: int | None = None,
    *,
    prompted: bool = True,
) -> PreparedPrompt:
    """A prompt with passages, token ids, beside it.

    Args:
        model: reads them.
        prompt: what the decoder reads.
        passages: in the order of the text; what the encoder does not hold of one is cut off.
        ratio: one embedding for so many tokens, before the prompt; None: they are in the encoder.
        prompted: whether the prompt has text beside its question, so that the encoder counts less.
    """
    if not any(passages):
        return PreparedPrompt(prompt, None)
    if ratio is not None:
        return PreparedPrompt(prompt, None, layout=prefix_of(model, passages, ratio))
    context = model.encode_passages([passage[: model.encoder_window] for passage in passages])
    if prompted:
        context.gain = model.prompted_gain
    if model.cross_attend == "question":
        context.attend_from = prompt.question_start
    return PreparedPrompt(prompt, context)


@torch.inference_mode()
def prefix_of(model: CepeModel, passages: Sequence[list[int]], ratio: int) -> Prefix:
    """The embeddings of passages, in their order."""
    return Prefix(torch.cat(embed(model, divided(model, passages), ratio)), sum(map(len, passages)))
