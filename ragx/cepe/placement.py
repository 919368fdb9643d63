"""Where a model's weights go, in which number format, and whether they fit."""

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
UNQUANTIZED = ["lm_head", "encoder", r"model\.layers\.\d+\.cross_attn"]
"""Modules that bitsandbytes does not quantize: those that ragx adds, and the output layer."""
BYTES_PER_WEIGHT = {4: 0.5 + 4 / 64, 8: 1.0}
"""Size of a quantized weight; nf4 stores a float32 for each block of 64."""


@dataclass(frozen=True)
class Placement:
    """Device and number format of a model's weights."""

    dtype: torch.dtype
    """Number format of weights that are not quantized."""
    device: str
    """A torch device, or `auto`: layers are spread over all GPUs."""
    bits: Bits | None = None
    """The decoder's matrices in 8 or 4 bits (nf4), by bitsandbytes; None: in `dtype`."""
    processes: int = 1
    """How many share the decoder's matrices (tensor parallelism)."""

    @classmethod
    def of(
        cls,
        dtype: str | torch.dtype | None,
        device: str | None,
        bits: int | None,
        *,
        tensor_parallel: bool = False,
    ) -> Placement:
        """A placement from a user's choices; None: the best on this machine.

        Raises:
            ConfigError: the device is not available, the format is unknown, bitsandbytes is not installed, or there is
                no process group to share the decoder.
        """
        if tensor_parallel:
            return cls._shared(dtype, bits)
        usable = usable_device(device)
        if bits is not None and bits not in get_args(Bits):
            raise ConfigError(f"bits must be 4 or 8, got {bits}")
        if bits and find_spec("bitsandbytes") is None:
            raise ConfigError("quantizing to 4 or 8 bits needs bitsandbytes: pip install 'ragx[quant]'")
        spread = device == "auto" and torch.cuda.device_count() > 1
        return cls(parse_dtype(dtype, usable), "auto" if spread else usable, bits)  # type: ignore[arg-type]  # checked

    @classmethod
    def _shared(cls, dtype: str | torch.dtype | None, bits: int | None) -> Placement:
        """Among the processes that torchrun started, each with its own GPU, if there are any."""
        if bits is not None:
            raise ConfigError("a decoder in 4 or 8 bits cannot be divided over processes")
        if not torch.distributed.is_initialized():
            raise ConfigError(
                "tensor_parallel needs torchrun, and torch.distributed.init_process_group() before the model is loaded"
            )
        device = f"cuda:{torch.distributed.get_node_local_rank()}" if torch.cuda.is_available() else "cpu"
        return cls(parse_dtype(dtype, device), device, processes=torch.distributed.get_world_size())

    def arguments(self) -> dict[str, Any]:
        """Arguments of transformers' `from_pretrained`."""
        arguments: dict[str, Any] = {"dtype": self.dtype}
        if self.processes > 1:
            from transformers.distributed.configuration_utils import DistributedConfig

            arguments["distributed_config"] = DistributedConfig(tp_size=self.processes)
        elif self.bits or self.device != "cpu":
            arguments["device_map"] = "auto" if self.device == "auto" else {"": self.device}
        if self.bits:
            logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at every 8-bit product
            from transformers import BitsAndBytesConfig

            arguments["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=self.bits == 4,
                load_in_8bit=self.bits == 8,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=self.dtype,
                llm_int8_skip_modules=UNQUANTIZED,
            )
        return arguments

    def check_memory(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Check, before loading, that the weights fit into free memory, given their shapes by state-dict key.

        Raises:
            ModelError: they do not fit.
        """
        needed = sum(math.prod(shape) * self._bytes_per_weight(key, shape) for key, shape in shapes.items())
        if self.device == "auto":
            free = sum(free_memory(f"cuda:{index}") for index in range(torch.cuda.device_count()))
        else:
            free = free_memory(self.device)
        if needed > free:
            number_format = f"{self.bits} bits" if self.bits else str(self.dtype).removeprefix("torch.")
            place = "the GPUs have" if self.device == "auto" else f"{self.device} has"
            advice = "use a smaller model" if self.bits == 4 else "use fewer bits (--bits 4), a smaller model"
            raise ModelError(
                f"the weights take {needed / 1e9:,.1f} GB in {number_format}, but {place} {free / 1e9:,.1f} GB free:"
                f" {advice} or another device"
            )

    def check_heads(self, kv_heads: int) -> None:
        """Check that the processes get equally many heads.

        Raises:
            ModelError: they cannot.
        """
        if kv_heads % self.processes:
            raise ModelError(f"{self.processes} processes cannot share {kv_heads} key/value heads equally")

    def _bytes_per_weight(self, key: str, shape: Sequence[int]) -> float:
        if len(shape) == 2 and key.startswith("model.layers.") and ".cross_attn." not in key:
            return BYTES_PER_WEIGHT[self.bits] if self.bits else self.dtype.itemsize / self.processes
        return self.dtype.itemsize
