"""Weights, gradients and the optimizer's moments spread over the devices (FSDP2): a layer is whole while it is used."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ragx.cepe.model import CepeModel


def shard(objective: nn.Module, model: CepeModel) -> None:
    """Spread `model`, which is part of `objective`, over the processes, a layer at a time."""
    for layer in (*model.model.layers, *model.encoder.layers):
        fully_shard(layer)
    fully_shard(objective)


def gather(model: CepeModel, *, keep: bool) -> None:
    """Put all weights whole into the memory of processes that are to `keep` them; every process calls it."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                weight = parameter.full_tensor().detach()
                if keep:
                    setattr(module, name, nn.Parameter(weight.cpu(), requires_grad=parameter.requires_grad))


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which a device may hold a part; every process has to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """The part of a whole tensor that this device holds of `weight`."""
    if not isinstance(weight, DTensor):
        return tensor
    return distribute_tensor(tensor.to(weight.device), weight.device_mesh, weight.placements)
