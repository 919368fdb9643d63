"""Encoded passages as the decoder sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

KeyValue = tuple[Tensor, Tensor] | None
"""Keys and values (B, G, M, D); None for a layer that has nothing to add."""


@dataclass
class Context:
    """Φ of a batch of questions and, once a layer has asked for them, that layer's keys and values.

    The encodings carry no position across passages: their order changes nothing (paper section 2.1).
    """

    phi: Tensor
    """The encoder's last hidden states, (B, M, E); rows shorter than M are padded at the end."""
    mask: Tensor | None
    """(B, M), true where a token is; None when no row is padded."""
    _keys_values: dict[int, KeyValue] = field(default_factory=dict, repr=False)

    @property
    def tokens(self) -> int:
        """M, the longest row."""
        return self.phi.shape[1]

    def keys_values(self, layer: int, project: Callable[[Tensor], KeyValue]) -> KeyValue:
        """Keys and values (B, G, M, D) of `layer`: projected on the first call, kept for every later token."""
        if layer not in self._keys_values:
            keys_values = project(self.phi)
            if torch.is_grad_enabled():  # a training step projects afresh: weights change and graphs are freed
                return keys_values
            self._keys_values[layer] = keys_values
        return self._keys_values[layer]

    def repeat_interleave(self, times: int) -> Context:
        """Each question `times` over: (B·times, M, E), for beams and several samples of one question."""
        mask = None if self.mask is None else self.mask.repeat_interleave(times, dim=0)
        return Context(self.phi.repeat_interleave(times, dim=0), mask)


def pad(rows: list[Tensor]) -> Context:
    """One packed row (M_b, E) a question -> a padded batch (B, M, E) with its mask."""
    lengths = [row.shape[0] for row in rows]
    if len(set(lengths)) == 1:
        return Context(torch.stack(rows), None)
    phi = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (B, M, E)
    columns = torch.arange(phi.shape[1], device=phi.device)
    return Context(phi, columns < torch.tensor(lengths, device=phi.device)[:, None])
