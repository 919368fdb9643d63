"""Negative log-likelihoods of a text's last tokens by each reader, over the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ragx.cepe.model import CepeModel
from ragx.engine.attention_sinks import AttentionSinks
from ragx.engine.torch_decoder import TorchDecoder
from ragx.evaluation.results import Values
from ragx.evaluation.scoring import score
from ragx.types import Passage

if TYPE_CHECKING:
    from ragx.types import Embedder


def by_decoder(
    model: CepeModel, ids: Sequence[int], passages: Sequence[Sequence[int]], *, last: int, ratio: int | None = None
) -> Values:
    """`full`; with passages `cepe`, or with a ratio `extensible`: `nll` (nats), `tokens` scored and `read_tokens`."""
    values = score(model, ids, passages, last=last, ratio=ratio)
    return {"nll": values["nll"], "tokens": last, "read_tokens": len(ids) + sum(map(len, passages))}


@torch.inference_mode()
def by_streaming(model: CepeModel, ids: Sequence[int], sinks: AttentionSinks, *, last: int) -> Values:
    """`streaming`: the last logit before tokens are dropped predicts the first token after that."""
    decoder = TorchDecoder(model)
    logits = decoder.read(decoder.sequence(sinks, 0), ids[:-1], keep=last)
    nll = F.cross_entropy(logits.float(), _labels(ids, last, logits), reduction="sum")
    return {"nll": nll.item(), "tokens": last, "read_tokens": len(ids)}


@torch.inference_mode()
def by_replug(
    model: CepeModel, ids: Sequence[int], passages: Sequence[Sequence[int]], log_weights: Sequence[float], *, last: int
) -> Values:
    """`replug`: −Σ log Σ_k λ_k p(token | passage k, tokens before)."""
    rows = []
    for passage, log_weight in zip(passages, log_weights, strict=True):
        inputs = torch.tensor([[*passage, *ids]], device=model.device)  # (1, N)
        logits = model(input_ids=inputs, logits_to_keep=last + 1, use_cache=False).logits[0, :-1].float()  # (last, V)
        rows.append(log_weight - F.cross_entropy(logits, _labels(ids, last, logits), reduction="none"))
    nll = -torch.stack(rows).logsumexp(dim=0).sum()
    return {"nll": nll.item(), "tokens": last, "read_tokens": sum(len(passage) + len(ids) for passage in passages)}


def replug_scores(embedder: Embedder | None, query: str, texts: Sequence[str]) -> list[float]:
    """⟨E(query), E(text)⟩ for each text; without an embedder, equal scores."""
    if embedder is None:
        return [0.0] * len(texts)
    passages = [Passage("", "", "", text, 0, 0, len(text), "") for text in texts]
    vectors = embedder.encode_passages(passages, lambda count: None)
    scores: list[float] = (vectors @ embedder.encode_question(query)).tolist()
    return scores


def _labels(ids: Sequence[int], last: int, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(list(ids[-last:]), device=like.device)
