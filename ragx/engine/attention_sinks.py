"""Key/value caches of constant size: the first tokens and the most recent ones (StreamingLLM, Xiao et al., ICLR 2024).

Tokens are read until the cache holds `limit` of them; then all but the sinks and the recent ones are dropped, and those
kept move together: a token's position is its place in the cache. Deeper layers still carry what was dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ragx.cepe.rope import ROPE_TYPES
from ragx.errors import ConfigError

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel

Layer = tuple[Tensor, Tensor]
"""A layer's keys and values, (1, G, N, D) each."""


@dataclass(frozen=True)
class AttentionSinks:
    """Which tokens stay in the cache."""

    sinks: int
    """The first tokens, S."""
    recent: int
    """The last tokens, R, at least one."""
    stride: int
    """Tokens that are read before any are dropped, at least one."""

    @property
    def limit(self) -> int:
        """Tokens in the cache when some are dropped."""
        return self.sinks + self.recent + self.stride


class Evicting:
    """Drops the tokens of one sequence.

    Rotated keys are not rotated again and again, which would add up rounding errors in 16-bit formats: the kept keys
    are also held as they are without positions.
    """

    def __init__(self, settings: AttentionSinks, model: CepeModel) -> None:
        """Check that the model's keys can be moved.

        Raises:
            ConfigError: they cannot, or the decoder's window is too small.
        """
        kind = model.config.rope_parameters.get("rope_type", "default")
        if kind not in ROPE_TYPES:
            raise ConfigError(f"streaming needs positions that do not depend on the length, not {kind}")
        window = getattr(model.config, "sliding_window", None)
        if window and window < model.window:
            raise ConfigError("streaming needs a decoder without a sliding window")
        if settings.limit > model.window:
            raise ConfigError(
                f"sinks, recent tokens and stride add up to {settings.limit} tokens, more than the decoder's window of"
                f" {model.window}"
            )
        self.settings = settings
        self._inverse_frequencies: Tensor = model.model.rotary_emb.inv_freq
        self._rotated = [getattr(layer.self_attn, "use_rope", True) for layer in model.model.layers]
        self._plain: list[Tensor] = []  # a layer: keys that stay, without positions, (1, G, S + R, D)

    def evict(self, layers: list[Layer]) -> list[Layer]:
        """The layers of a cache of `limit` tokens, cut down to the sinks and the recent tokens."""
        known = self._plain or [keys[:, :, :0] for keys, _ in layers]
        kept: list[Layer] = []
        self._plain = []
        for (keys, values), plain, rotated in zip(layers, known, self._rotated, strict=True):
            start = plain.shape[2]
            plain = torch.cat(
                [plain, self._rotate(keys[:, :, start:], -1, start) if rotated else keys[:, :, start:]], 2
            )
            plain = self._kept(plain)
            self._plain.append(plain)
            kept.append((self._rotate(plain, 1, 0) if rotated else plain, self._kept(values)))
        return kept

    def _kept(self, tensor: Tensor) -> Tensor:
        """(1, G, N, D) -> (1, G, S + R, D)."""
        first = tensor[:, :, : self.settings.sinks]
        return torch.cat([first, tensor[:, :, tensor.shape[2] - self.settings.recent :]], dim=2)

    def _rotate(self, keys: Tensor, direction: int, start: int) -> Tensor:
        """Rotate keys (1, G, N, D) by the positions from `start`, or back; scaled keys stay scaled (YaRN)."""
        positions = torch.arange(start, start + keys.shape[2], device=keys.device, dtype=torch.float32)
        angles = direction * positions[:, None] * self._inverse_frequencies.to(keys.device, torch.float32)  # (N, D/2)
        cos, sin = angles.cos(), angles.sin()
        first, second = keys.float().chunk(2, dim=-1)  # transformers rotates dimension i together with i + D/2
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(keys.dtype)
