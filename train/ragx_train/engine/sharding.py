"""Weights, gradients and optimizer moments sharded over devices (FSDP2); a layer is gathered while it is used."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ragx.cepe.fresh import is_added
from ragx.cepe.model import CepeModel
from ragx.extensible.saving import PREFIX


def shard(objective: nn.Module, model: CepeModel) -> None:
    """Shard `model`, which is part of `objective`, over the processes, layer by layer."""
    for layer in (*model.model.layers, *model.encoder.layers):
        fully_shard(layer)
    fully_shard(objective)


def whole_state(model: CepeModel) -> dict[str, Tensor]:
    """The state dict of the weights that a reader adds to its decoder; every process must call it."""
    return {
        key: whole(tensor)
        for key, tensor in model.state_dict().items()
        if is_added(key, model.config) or key.startswith(PREFIX)
    }


def whole(tensor: Tensor) -> Tensor:
    """A tensor gathered from all devices; every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """The part of a whole tensor that matches this device's part of `weight`."""
    if not isinstance(weight, DTensor):
        return tensor
    return distribute_tensor(tensor.to(weight.device), weight.device_mesh, weight.placements)
