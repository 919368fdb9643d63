"""The module added to a decoder layer: attention from the decoder's tokens to the encoded passages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from ragx_kernels.cross_attention import cross_attention, project_keys_values
from torch import Tensor, nn

from ragx.cepe.context import Context, Contexts, KeysValues

LATENT_QUERIES = 16
"""Decoder tokens per step from which the latent strategy's wider products cost more than projecting."""


class CrossAttention(nn.Module):
    """o_proj(softmax(q_proj(norm(x)) · k_proj(Φ)ᵀ / √D) · v_proj(Φ)) (paper section 2.1).

    Neither queries nor keys carry positions. Attribute names are those of the authors' checkpoints.
    """

    def __init__(
        self,
        layer: int,
        *,
        norm: nn.Module,
        decoder_width: int,
        encoder_width: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
    ) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, head_dim
        self.q_proj = nn.Linear(decoder_width, heads * head_dim, bias=False)
        self.k_proj = nn.Linear(encoder_width, kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(encoder_width, kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(heads * head_dim, decoder_width, bias=False)
        self.layernorm = norm

    def forward(self, hidden: Tensor, context: Contexts) -> Tensor:
        """The term to add to the residual stream: (B, N, W) -> (B, N, W); zeros for a question without passages.

        With one context per row, each row keeps its cached keys and values when the batch changes.
        """
        skipped = context.skipped if isinstance(context, Context) else 0
        if skipped >= hidden.shape[1]:
            return torch.zeros_like(hidden)
        return (
            F.pad(self._added(hidden[:, skipped:], context), (0, 0, skipped, 0))
            if skipped
            else self._added(hidden, context)
        )

    def _added(self, hidden: Tensor, context: Contexts) -> Tensor:
        contexts = [context] if isinstance(context, Context) else context
        active = [None if row is None or row.is_inactive(self.layer, self.o_proj.weight) else row for row in contexts]
        if not any(active):
            return torch.zeros_like(hidden)
        states: Tensor = self.q_proj(self.layernorm(hidden))
        query = states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, H, N, D)
        rows = zip(query.chunk(len(active)), active, strict=True)
        attended = torch.cat([torch.zeros_like(q) if row is None else self._attend(q, row) for q, row in rows])
        output: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))  # (B, N, W)
        return output

    def _attend(self, query: Tensor, context: Context) -> Tensor:
        """Attend, (B, H, N, D) -> (B, H, N, D), and record the attention if the context says so."""
        context = context.on(query.device)
        attended, lse = self._attention(query, context, with_lse=context.record_attention and query.shape[2] == 1)
        if context.record_attention and lse is None:  # of a prompt, only the last token's attention is recorded
            _, lse = self._attention(query[:, :, -1:], context, with_lse=True)
        if lse is not None:
            context.record(lse)
        if context.attending is not None:
            attended = attended * context.attending[:, None, :, None]
        return attended if context.gain == 1 else context.gain * attended

    def _attention(self, query: Tensor, context: Context, *, with_lse: bool) -> tuple[Tensor, Tensor | None]:
        keys_values = None
        strategy = context.strategy
        if strategy == "cached":
            keys_values = context.keys_values(self.layer, lambda: self._project(context))
        elif strategy == "latent" and query.shape[2] >= LATENT_QUERIES:
            strategy = "project"
        return cross_attention(
            query,
            context.phi,
            self.k_proj.weight,
            self.v_proj.weight,
            strategy=strategy,
            keys_values=keys_values,
            phi_scale=context.phi_scale,
            mask=context.mask,
            offsets=context.offsets if with_lse else None,
            scale=context.scale(self.head_dim),
        )

    def _project(self, context: Context) -> KeysValues:
        return project_keys_values(
            context.phi, self.k_proj.weight, self.v_proj.weight, head_dim=self.head_dim, phi_scale=context.phi_scale
        )
