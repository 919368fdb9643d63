"""Encoded passages, as the decoder attends to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from ragx_kernels.cross_attention import AttentionStrategy, attention_shares
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]


@dataclass
class Context:
    """Φ of a batch of questions, how to attend to it, and what the layers cache between steps.

    Encodings carry no positions across passages, so the order of passages changes nothing (paper section 2.1). Adding
    or dropping passages makes a new context and does not affect the decoder's own cache.
    """

    phi: Tensor
    """The encoder's last hidden states, (B, M, E), floating point or int8; shorter rows are padded at the end."""
    mask: Tensor | None = None
    """(B, M), true for tokens, false for padding; None: no padding."""
    offsets: Sequence[Sequence[int]] = ()
    """For each question the token positions at which its passages start, and the end of the last one."""
    phi_scale: Tensor | None = None
    """(B, M), the factor of each row of int8 Φ."""
    strategy: AttentionStrategy = "cached"
    """How a decoding step attends; all three are exact. With `latent`, prefill re-projects keys and values."""
    sharpen_beyond: int | None = None
    """M in training: a longer context sharpens the scores (paper appendix D, after YaRN); None: never."""
    gain: float = 1.0
    """Factor of the attention's output; at 0 the decoder behaves as without passages."""
    attend_from: int = 0
    """The first token of the prompt that attends to the passages."""
    skipped: int = 0
    """How many of a forward pass's tokens come before `attend_from`; the model sets it."""
    attending: Tensor | None = None
    """(B, N), true at tokens that attend, in a forward pass without a cache; None: all from `skipped`."""
    record_attention: bool = False
    """Whether to record how much of the attention each passage receives; see `attention_shares`."""
    _keys_values: dict[int, KeysValues] = field(default_factory=dict, repr=False)
    _inactive: dict[int, bool] = field(default_factory=dict, repr=False)
    _shares: list[Tensor] = field(default_factory=list, repr=False)
    _copies: dict[torch.device, Context] = field(default_factory=dict, repr=False)

    def on(self, device: torch.device) -> Context:
        """The context on a layer's device; a decoder spread over several GPUs makes one copy per GPU."""
        if device == self.phi.device:
            return self
        if device not in self._copies:
            mask, scale = (None if tensor is None else tensor.to(device) for tensor in (self.mask, self.phi_scale))
            self._copies[device] = self._with(self.phi.to(device), mask, scale, self.offsets)
            self._copies[device]._shares = self._shares
        copy = self._copies[device]
        copy.record_attention, copy.skipped = self.record_attention, self.skipped
        return copy

    @property
    def tokens(self) -> int:
        """M, the length of the longest row."""
        return self.phi.shape[1]

    def scale(self, head_dim: int) -> float:
        """The factor of the scores: 1/√D, times (1 + ln(M / `sharpen_beyond`) / 10)² for a longer context.

        M is the length of the longest row, so for such contexts a row's logits depend slightly on its padding.
        """
        beyond = max(1.0, self.tokens / self.sharpen_beyond) if self.sharpen_beyond else 1.0
        return (1 + math.log(beyond) / 10) ** 2 / math.sqrt(head_dim)

    def keys_values(self, layer: int, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values (B, G, M, D) of `layer`, projected on the first call and cached for later tokens."""
        if torch.is_grad_enabled():  # no cache in training, where weights change and graphs are freed
            return project()
        if layer not in self._keys_values:
            self._keys_values[layer] = project()
        return self._keys_values[layer]

    def is_inactive(self, layer: int, output_weight: Tensor) -> bool:
        """Whether a layer adds exactly 0: there are no tokens, or it is untrained (its output projection is zero)."""
        if self.tokens == 0:
            return True
        if torch.is_grad_enabled():
            return False
        if layer not in self._inactive:
            self._inactive[layer] = not bool(output_weight.any())
        return self._inactive[layer]

    def record(self, lse: Tensor) -> None:
        """Record the attention of one decoder token in one layer, from its log-sum-exps (B, H, 1, K)."""
        self._shares.append(attention_shares(lse).mean(dim=(1, 2)))  # (B, K)

    def attention_shares(self) -> Tensor | None:
        """Each passage's share of the recorded attention (B, K), averaged over heads, layers and decoded tokens.

        None if nothing was recorded, as in an untrained reader. Rows sum to 1; padding for questions with fewer
        passages gets 0.
        """
        return torch.stack([share.to(self.phi.device) for share in self._shares]).mean(dim=0) if self._shares else None

    def repeat_interleave(self, times: int) -> Context:
        """Each question repeated `times` times, (B·times, M, E), for beams or several samples of one question."""

        def repeated(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.repeat_interleave(times, dim=0)

        phi = self.phi.repeat_interleave(times, dim=0)
        offsets = [row for row in self.offsets for _ in range(times)]
        return self._with(phi, repeated(self.mask), repeated(self.phi_scale), offsets)

    def add(self, other: Context) -> Context:
        """The passages of this context followed by those of `other`, for one question (B = 1).

        Raises:
            ValueError: a context holds several questions, or their number formats differ.
        """
        if len(self.phi) != 1 or len(other.phi) != 1 or self.phi.dtype != other.phi.dtype:
            raise ValueError("add needs two contexts of one question each, in the same number format")
        scale = None
        if self.phi_scale is not None and other.phi_scale is not None:
            scale = torch.cat([self.phi_scale, other.phi_scale], dim=1)
        starts = [*self.offsets[0], *(self.tokens + start for start in other.offsets[0][1:])]
        return self._with(torch.cat([self.phi, other.phi], dim=1), None, scale, [starts])

    def drop(self, passage: int) -> Context:
        """All passages but one, numbered from 0, for one question (B = 1).

        Raises:
            ValueError: the context holds several questions.
            IndexError: there is no such passage.
        """
        if len(self.phi) != 1:
            raise ValueError("drop needs a context of one question")
        starts = self.offsets[0]
        if not 0 <= passage < len(starts) - 1:
            raise IndexError(f"no passage {passage} among {len(starts) - 1}")
        start, end = starts[passage], starts[passage + 1]
        keep = torch.cat([torch.arange(start), torch.arange(end, self.tokens)]).to(self.phi.device)
        scale = None if self.phi_scale is None else self.phi_scale[:, keep]
        kept = [*starts[: passage + 1], *(later - (end - start) for later in starts[passage + 2 :])]
        return self._with(self.phi[:, keep], None, scale, [kept])

    def _with(
        self, phi: Tensor, mask: Tensor | None, phi_scale: Tensor | None, offsets: Sequence[Sequence[int]]
    ) -> Context:
        """A context with the same settings, another Φ and empty caches."""
        return replace(
            self,
            phi=phi,
            mask=mask,
            phi_scale=phi_scale,
            offsets=offsets,
            _keys_values={},
            _inactive={},
            _shares=[],
            _copies={},
        )


Contexts = Context | Sequence[Context | None]
"""The context of a batch, or one per row, so that questions can join and leave the batch."""


def pad(rows: Sequence[Tensor], lengths: Sequence[Sequence[int]]) -> Context:
    """One packed row (M_b, E) per question and its passages' lengths -> a padded batch (B, M, E)."""
    offsets = [[0, *accumulate(passages)] for passages in lengths]
    tokens = [row.shape[0] for row in rows]
    if len(set(tokens)) == 1:
        return Context(torch.stack(list(rows)), offsets=offsets)
    phi = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)  # (B, M, E)
    columns = torch.arange(phi.shape[1], device=phi.device)
    return Context(phi, columns < torch.tensor(tokens, device=phi.device)[:, None], offsets)
