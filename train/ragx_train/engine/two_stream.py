"""Two-stream training: one stream embeds the chunks of a text, the other predicts every token of it (2402.11577).

The decoder reads all embeddings and then all tokens in one forward pass. A token sees the embeddings of the chunks
before its own and the earlier tokens of its own, as if it were read after them alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ragx.cepe.model import CepeModel
from ragx.extensible.embedder import embedder_of, places
from ragx_train.data.example import IGNORE, Batch
from ragx_train.engine.losses import Losses, cross_entropy


def two_stream_loss(model: CepeModel, batch: Batch) -> Losses:
    """Summed cross-entropy of the labels. A row's passages are its first chunks; `segments` number its tokens'."""
    embed_tokens = model.model.embed_tokens
    states = embedder_of(model)(embed_tokens(batch.passages))  # (P, L, W)
    lengths: list[int] = batch.passage_mask.sum(dim=1).tolist()
    rows, chunks = [], []
    for reads, ratio in zip(batch.reads, batch.ratios, strict=True):
        kept = [places(lengths[passage], ratio) for passage in reads]
        rows.append(torch.cat([states[passage, which] for passage, which in zip(reads, kept, strict=True)]))
        chunks.append(torch.tensor([number for number, which in enumerate(kept, start=1) for _ in which]))
    embeddings = pad_sequence(rows, batch_first=True)  # (B, S, W)
    unseen = len(max(batch.reads, key=len)) + 1
    of_embeddings = pad_sequence(chunks, batch_first=True, padding_value=unseen).to(embeddings.device)  # (B, S)
    of_tokens = torch.ones_like(batch.ids) if batch.segments is None else batch.segments  # (B, N)
    mask, positions = two_streams(of_embeddings, of_tokens)
    hidden: Tensor = model.model(
        inputs_embeds=torch.cat([embeddings, embed_tokens(batch.ids)], dim=1),  # (B, S + N, W)
        attention_mask=mask,
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state[:, embeddings.shape[1] :]  # (B, N, W)
    labelled = batch.labels != IGNORE
    return {"loss": cross_entropy(hidden[labelled], model.lm_head.weight, batch.labels[labelled])}


def two_streams(of_embeddings: Tensor, of_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What each embedding and token sees, by the number of its chunk.

    Args:
        of_embeddings: (B, S), in ascending order.
        of_tokens: (B, N).

    Returns:
        A mask (B, 1, S + N, S + N), true where one (row) sees another (column), and positions (B, S + N): embeddings
        are consecutive, and the tokens of a chunk follow the embeddings that they see.
    """
    batch, size = of_embeddings.shape
    total = size + of_tokens.shape[1]
    seen = torch.zeros(batch, total, total, dtype=torch.bool, device=of_tokens.device)
    seen[:, :size, :size] = torch.ones(size, size, dtype=torch.bool, device=seen.device).tril()
    seen[:, size:, :size] = of_embeddings[:, None, :] < of_tokens[:, :, None]
    seen[:, size:, size:] = (of_tokens[:, None, :] == of_tokens[:, :, None]).tril()
    return seen[:, None], seen.sum(dim=2) - 1
