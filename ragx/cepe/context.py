"""Encoded passages as the decoder sees them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from ragx_kernels.cross_attention import AttentionStrategy, shares
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]


@dataclass
class Context:
    """Φ of a batch of questions, how to attend to it, and what the layers keep of it between steps.

    The encodings carry no position across passages: their order changes nothing (paper section 2.1). Passages are added
    and dropped by making another context from this one; the decoder's own cache is not concerned.
    """

    phi: Tensor
    """The encoder's last hidden states, (B, M, E), floating point or int8; shorter rows are padded at the end."""
    mask: Tensor | None = None
    """(B, M), true where a token is; None when no row is padded."""
    offsets: Sequence[Sequence[int]] = ()
    """For each question the token positions at which its passages begin, and where the last one ends."""
    phi_scale: Tensor | None = None
    """(B, M), what a row of int8 Φ is multiplied with."""
    strategy: AttentionStrategy = "cached"
    """How a decoding step attends. All three are exact; a prefill re-projects unless keys and values are kept."""
    trained_tokens: int | None = None
    """M in training: scores are sharpened for a longer context (paper appendix D, after YaRN); None: never."""
    gain: float = 1.0
    """What the attention's output is scaled by; at 0 the decoder is as without passages."""
    watch: bool = False
    """Whether to note how much of the attention each passage receives; see `shares`."""
    _keys_values: dict[int, KeysValues] = field(default_factory=dict, repr=False)
    _silent: dict[int, bool] = field(default_factory=dict, repr=False)
    _seen: list[Tensor] = field(default_factory=list, repr=False)
    _copies: dict[torch.device, Context] = field(default_factory=dict, repr=False)

    def on(self, device: torch.device) -> Context:
        """The same where a layer is: copied once to each GPU that a decoder is spread over."""
        if device == self.phi.device:
            return self
        if device not in self._copies:
            mask, scale = (None if tensor is None else tensor.to(device) for tensor in (self.mask, self.phi_scale))
            self._copies[device] = self._remade(self.phi.to(device), mask, scale, self.offsets)
            self._copies[device]._seen = self._seen
        copy = self._copies[device]
        copy.watch = self.watch
        return copy

    @property
    def tokens(self) -> int:
        """M, the longest row."""
        return self.phi.shape[1]

    def scale(self, head_dim: int) -> float:
        """What scores are multiplied with: 1/√D, times (1 + ln(M / M_trained) / 10)² for a context beyond training.

        M is that of the longest row, so beyond training a row's logits depend a little on what it is padded to.
        """
        beyond = max(1.0, self.tokens / self.trained_tokens) if self.trained_tokens else 1.0
        return (1 + math.log(beyond) / 10) ** 2 / math.sqrt(head_dim)

    def keys_values(self, layer: int, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values (B, G, M, D) of `layer`: projected on the first call, kept for every later token."""
        if torch.is_grad_enabled():  # a training step projects afresh: weights change and graphs are freed
            return project()
        if layer not in self._keys_values:
            self._keys_values[layer] = project()
        return self._keys_values[layer]

    def is_silent(self, layer: int, output_weight: Tensor) -> bool:
        """Whether a layer adds exactly nothing: no tokens, or not yet trained (a zero output projection)."""
        if self.tokens == 0:
            return True
        if torch.is_grad_enabled():
            return False
        if layer not in self._silent:
            self._silent[layer] = not bool(output_weight.any())
        return self._silent[layer]

    def see(self, lse: Tensor) -> None:
        """Take in a layer's log-sum-exps (B, H, 1, K) of one decoder token."""
        self._seen.append(shares(lse).mean(dim=(1, 2)))  # (B, K)

    def shares(self) -> Tensor | None:
        """Each passage's share of the attention (B, K), averaged over heads, layers and the tokens decoded so far.

        None when nothing was watched, as in an untrained reader. Rows sum to 1; passages beyond a question's own get 0.
        """
        return torch.stack([seen.to(self.phi.device) for seen in self._seen]).mean(dim=0) if self._seen else None

    def repeat_interleave(self, times: int) -> Context:
        """Each question `times` over: (B·times, M, E), for beams and several samples of one question."""

        def repeated(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.repeat_interleave(times, dim=0)

        phi = self.phi.repeat_interleave(times, dim=0)
        offsets = [row for row in self.offsets for _ in range(times)]
        return self._remade(phi, repeated(self.mask), repeated(self.phi_scale), offsets)

    def add(self, more: Context) -> Context:
        """These passages and then those of `more`, for one question (B = 1).

        Raises:
            ValueError: one of the two holds several questions, or their number formats differ.
        """
        if len(self.phi) != 1 or len(more.phi) != 1 or self.phi.dtype != more.phi.dtype:
            raise ValueError("passages can be added to one question's context, in the same number format")
        scale = None
        if self.phi_scale is not None and more.phi_scale is not None:
            scale = torch.cat([self.phi_scale, more.phi_scale], dim=1)
        starts = [*self.offsets[0], *(self.tokens + start for start in more.offsets[0][1:])]
        return self._remade(torch.cat([self.phi, more.phi], dim=1), None, scale, [starts])

    def drop(self, passage: int) -> Context:
        """All passages but one, counted from 0, for one question (B = 1).

        Raises:
            ValueError: there are several questions.
            IndexError: there is no such passage.
        """
        if len(self.phi) != 1:
            raise ValueError("a passage can be dropped from one question's context")
        starts = self.offsets[0]
        if not 0 <= passage < len(starts) - 1:
            raise IndexError(f"there is no passage {passage} among {len(starts) - 1}")
        start, end = starts[passage], starts[passage + 1]
        keep = torch.cat([torch.arange(start), torch.arange(end, self.tokens)]).to(self.phi.device)
        scale = None if self.phi_scale is None else self.phi_scale[:, keep]
        kept = [*starts[: passage + 1], *(later - (end - start) for later in starts[passage + 2 :])]
        return self._remade(self.phi[:, keep], None, scale, [kept])

    def _remade(
        self, phi: Tensor, mask: Tensor | None, scale: Tensor | None, offsets: Sequence[Sequence[int]]
    ) -> Context:
        return replace(
            self,
            phi=phi,
            mask=mask,
            phi_scale=scale,
            offsets=offsets,
            _keys_values={},
            _silent={},
            _seen=[],
            _copies={},
        )


Contexts = Context | Sequence[Context | None]
"""That of a batch, or one for each of its rows, where questions come and go."""


def pad(rows: Sequence[Tensor], lengths: Sequence[Sequence[int]]) -> Context:
    """One packed row (M_b, E) a question, and the lengths of its passages -> a padded batch (B, M, E)."""
    offsets = [[0, *accumulate(of_question)] for of_question in lengths]
    tokens = [row.shape[0] for row in rows]
    if len(set(tokens)) == 1:
        return Context(torch.stack(list(rows)), offsets=offsets)
    phi = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)  # (B, M, E)
    columns = torch.arange(phi.shape[1], device=phi.device)
    return Context(phi, columns < torch.tensor(tokens, device=phi.device)[:, None], offsets)
