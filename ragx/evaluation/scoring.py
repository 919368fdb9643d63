"""How likely a reader finds the tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError
from ragx.extensible.embedder import embed

if TYPE_CHECKING:
    from ragx.engine.backend import ReaderModel
    from ragx.evaluation.results import Values


@torch.inference_mode()
def score(
    model: ReaderModel, ids: Sequence[int], passages: Sequence[Sequence[int]], *, last: int, ratio: int | None = None
) -> Values:
    """Teacher-forced next-token prediction of the last tokens of `ids`.

    Logits are computed for the scored tokens only, in float32.

    Args:
        model: the reader.
        ids: (N,), the decoder's tokens, without a start token.
        passages: token ids of the encoder's passages; with none, the plain decoder is scored.
        last: number of tokens to score, less than N.
        ratio: the passages are chunks in order, read as an embedding for so many tokens each; None: in the encoder.

    Returns:
        `nll`, the summed negative log-likelihood in nats; `correct`, how many of the tokens were the most likely ones;
        and `tokens`, which equals `last`.

    Raises:
        ConfigError: the model is not on the torch backend.
        ValueError: `last` is out of range.
    """
    if not isinstance(model, CepeModel):
        raise ConfigError("only the torch backend scores text: use --backend torch")
    if not 0 < last < len(ids):
        raise ValueError(f"last must be between 1 and {len(ids) - 1}, got {last}")
    inputs = torch.tensor([list(ids)], device=model.device)  # (1, N)
    read: dict[str, Any] = {"input_ids": inputs}
    if passages and ratio is not None:
        embeddings = [*embed(model, passages, ratio), model.model.embed_tokens(inputs[0])]
        read = {"inputs_embeds": torch.cat(embeddings)[None]}  # (1, S + N, W)
    elif passages:
        read["context"] = model.encode_passages([list(passage) for passage in passages])
        read["context"].strategy = "project"  # one forward pass: a layer's keys and values are not needed again
    output = model(**read, logits_to_keep=last + 1, use_cache=False)
    logits = output.logits[0, :-1].float()  # (last, V)
    labels = inputs[0, -last:].to(logits.device)
    nll = F.cross_entropy(logits, labels, reduction="sum")
    correct = (logits.argmax(dim=1) == labels).sum()
    return {"nll": nll.item(), "correct": int(correct.item()), "tokens": last}
