"""The extensible embedder: the first layers of a decoder read a chunk, and every k-th state stands for k tokens.

Extensible Embedding (arXiv 2402.11577). The frozen decoder reads these embeddings as if they were tokens, before its
own: 100,000 tokens at k = 32 take 3,125 places of its window.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig

from ragx.cepe.model import CepeModel, digest_tensor
from ragx.errors import ConfigError
from ragx.util.settings import Settings

CHUNKS = 16
"""Chunks embedded at once."""


class EmbedderSettings(Settings):
    """What an embedder consists of, and how it is trained to be used."""

    layers: int = Field(default=8, ge=0)
    """The decoder's first layers, from which it starts; all if the decoder has fewer."""
    chunk: int = Field(default=512, ge=1)
    """L_c: tokens that are embedded together."""
    ratios: tuple[int, ...] = Field(default=(16, 32, 64), min_length=1)
    """k: tokens for each embedding; each divides `chunk`."""
    norm: Literal["rms", "scale"] = "rms"
    """How states, far larger than token embeddings, become as large: an RMS norm, or one factor."""

    @model_validator(mode="after")
    def _ratios_divide_the_chunk(self) -> EmbedderSettings:
        if wrong := [ratio for ratio in self.ratios if ratio < 1 or self.chunk % ratio]:
            raise ValueError(f"ratios must divide the {self.chunk} tokens of a chunk, got {wrong[0]}")
        return self


class ExtensibleEmbedder(nn.Module):
    """A causal stack over token embeddings, which are the decoder's, frozen and not among its weights."""

    def __init__(self, settings: EmbedderSettings, decoder: PreTrainedConfig) -> None:
        super().__init__()
        config = copy.deepcopy(decoder)
        config.num_hidden_layers = min(settings.layers, decoder.num_hidden_layers)
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: config.num_hidden_layers]
        self.settings = settings
        self.stack: Any = AutoModel.from_config(config)
        self.stack.embed_tokens = None
        if settings.norm == "scale":
            self.stack.norm = Scale()

    @torch.no_grad()
    def start_from(self, model: CepeModel, sample: Sequence[int]) -> None:
        """Copy a decoder's first layers, and match the RMS of states to that of token embeddings on `sample`."""
        self.stack.layers.load_state_dict(model.model.layers[: len(self.stack.layers)].state_dict())
        self.stack.norm.weight.fill_(1)
        tokens = model.model.embed_tokens(torch.tensor([list(sample)], device=model.device))  # (1, L, W)
        states = torch.cat([self(chunk) for chunk in tokens.split(self.settings.chunk, dim=1)], dim=1)
        self.stack.norm.weight.fill_(_rms(tokens) / _rms(states))

    def forward(self, tokens: Tensor) -> Tensor:
        """Token embeddings (P, L, W) of chunks, padded at the end -> a state for each token, (P, L, W)."""
        states: Tensor = self.stack(inputs_embeds=tokens, use_cache=False).last_hidden_state
        return states.to(tokens.dtype)

    def fingerprint(self, model: CepeModel) -> str:
        """SHA-256 (hex) of all that determines an embedding of `model`'s tokens but the ratio."""
        digest = hashlib.sha256(self.stack.config.to_json_string(use_diff=False).encode())
        weights = self.state_dict() | {"embed_tokens.weight": model.model.embed_tokens.weight}
        for name, tensor in sorted(weights.items()):
            digest_tensor(digest, name, tensor)
        return digest.hexdigest()


class Scale(nn.Module):
    """One factor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, states: Tensor) -> Tensor:
        """(P, L, W) -> (P, L, W)."""
        return self.weight * states


def places(length: int, ratio: int) -> list[int]:
    """Which of a chunk's states are embeddings: every k-th, and the last one for the tokens after that."""
    return [*range(ratio - 1, length, ratio), *([length - 1] if length % ratio else [])]


def embed(model: CepeModel, chunks: Sequence[Sequence[int]], ratio: int) -> list[Tensor]:
    """The embeddings of each chunk, token ids of at most `chunk` tokens: ⌈L/k⌉ rows (S, W) each."""
    embedder = embedder_of(model)
    embeddings: list[Tensor] = []
    for start in range(0, len(chunks), CHUNKS):
        batch = [torch.tensor(list(chunk)) for chunk in chunks[start : start + CHUNKS]]
        ids = nn.utils.rnn.pad_sequence(batch, batch_first=True).to(model.device)  # (P, L)
        states = embedder(model.model.embed_tokens(ids))  # (P, L, W)
        embeddings += [row[places(len(chunk), ratio)] for row, chunk in zip(states, batch, strict=True)]
    return embeddings


def divided(model: CepeModel, passages: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Passages in the chunks that the embedder reads, in order; a chunk is of one passage."""
    size = embedder_of(model).settings.chunk
    return [passage[start : start + size] for passage in passages for start in range(0, len(passage), size)]


def embedder_of(model: CepeModel) -> ExtensibleEmbedder:
    """The embedder that `model` was loaded with.

    Raises:
        ConfigError: it was loaded without one.
    """
    embedder: ExtensibleEmbedder | None = getattr(model, "extensible", None)
    if embedder is None:
        raise ConfigError("this model has no extensible embedder: train one with `ragx train extensible`")
    return embedder


def choose_ratio(model: CepeModel, ratio: int | None) -> int:
    """`ratio`, or if it is None the smallest that the embedder of `model` was trained with.

    Raises:
        ConfigError: it does not divide a chunk, or there is no embedder.
    """
    settings = embedder_of(model).settings
    if ratio is None:
        return min(settings.ratios)
    if settings.chunk % ratio:
        raise ConfigError(f"ratio must divide the {settings.chunk} tokens of the embedder's chunks, got {ratio}")
    return ratio


def _rms(vectors: Tensor) -> float:
    return float(vectors.float().square().mean().sqrt())
