"""Where a model's weights go and in which number format, and whether they fit there."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch

from ragx.errors import ConfigError, ModelError
from ragx.util.device import free_memory, parse_dtype, usable_device

Bits = Literal[4, 8]
IN_16_BITS = ["lm_head", "encoder", r"model\.layers\.\d+\.cross_attn"]
"""Modules that bitsandbytes leaves alone: what ragx adds to the decoder, and the output layer."""
BYTES_A_WEIGHT = {4: 0.5 + 4 / 64, 8: 1.0}
"""Of a quantised matrix; nf4 keeps a float32 for each block of 64."""


@dataclass(frozen=True)
class Placement:
    """How weights are held."""

    dtype: torch.dtype
    """Of what is not quantised."""
    device: str
    """A torch device, or `auto`: over all GPUs, layer by layer."""
    bits: Bits | None = None
    """The decoder's matrices in 8 or 4 bits (nf4), by bitsandbytes; None: in `dtype`."""

    @classmethod
    def checked(cls, dtype: str | torch.dtype | None, device: str | None, bits: int | None) -> Placement:
        """From what a user said; None is the machine's best.

        Raises:
            ConfigError: a device that is not there, an unknown format, or bitsandbytes is needed and missing.
        """
        here = usable_device(device)
        if bits is not None and bits not in get_args(Bits):
            raise ConfigError(f"bits must be 4 or 8, not {bits}")
        if bits and find_spec("bitsandbytes") is None:
            raise ConfigError("weights in 4 or 8 bits need bitsandbytes: pip install 'ragx[quant]'")
        spread = device == "auto" and torch.cuda.device_count() > 1
        return cls(parse_dtype(dtype, here), "auto" if spread else here, bits)  # type: ignore[arg-type]  # checked

    def arguments(self) -> dict[str, Any]:
        """What transformers' `from_pretrained` is told of it."""
        arguments: dict[str, Any] = {"dtype": self.dtype}
        if self.bits or self.device != "cpu":
            arguments["device_map"] = "auto" if self.device == "auto" else {"": self.device}
        if self.bits:
            logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at every product of 8-bit weights
            from transformers import BitsAndBytesConfig

            arguments["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=self.bits == 4,
                load_in_8bit=self.bits == 8,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=self.dtype,
                llm_int8_skip_modules=IN_16_BITS,
            )
        return arguments

    def check_memory(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Compare the weights, by state-dict key, with the free memory before any is loaded.

        Raises:
            ModelError: they do not fit.
        """
        needed = sum(math.prod(shape) * self._bytes_a_weight(key, shape) for key, shape in shapes.items())
        if self.device == "auto":
            free = sum(free_memory(f"cuda:{index}") for index in range(torch.cuda.device_count()))
        else:
            free = free_memory(self.device)
        if needed > free:
            held = f"{self.bits} bits" if self.bits else str(self.dtype).removeprefix("torch.")
            where = "the GPUs have" if self.device == "auto" else f"{self.device} has"
            less = "use a smaller model" if self.bits == 4 else "use fewer bits (--bits 4), a smaller model"
            raise ModelError(
                f"the weights take {needed / 1e9:,.1f} GB in {held}, but {where} {free / 1e9:,.1f} GB free:"
                f" {less} or another device"
            )

    def _bytes_a_weight(self, key: str, shape: Sequence[int]) -> float:
        if self.bits and len(shape) == 2 and key.startswith("model.layers.") and ".cross_attn." not in key:
            return BYTES_A_WEIGHT[self.bits]
        return self.dtype.itemsize
