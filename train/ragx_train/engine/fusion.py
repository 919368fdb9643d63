"""Norms and feed-forward networks compiled by torch, which fuses their many small operations on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ragx.cepe.model import CepeModel

VARIANTS = 64
"""Of a compiled function: for frozen and trained weights, with and without gradients."""


def fuse(model: CepeModel) -> None:
    """Compile the norms and feed-forward networks of decoder and encoder, when they first run.

    These do not mix tokens, so that they see rows of tokens, whose number alone varies. All layers share the code.
    """
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, VARIANTS)
    norm = type(model.model.norm)
    for name, module in model.named_modules():
        if isinstance(module, norm) or name.endswith(".mlp"):
            module.forward = partial(_of_rows, torch.compile(module.forward, dynamic=True))


def _of_rows(compiled: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    output: Tensor = compiled(hidden.flatten(0, -2)).unflatten(0, hidden.shape[:-1])
    return output
