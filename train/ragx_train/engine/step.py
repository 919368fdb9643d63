"""One step: its batches, the update they give, and validation, which does not update."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ragx.cepe.model import CepeModel
from ragx_train.data.example import Batch, Example, micro_batches
from ragx_train.engine.losses import Losses
from ragx_train.engine.sharding import whole
from ragx_train.errors import NotFiniteError
from ragx_train.settings import LoopSettings
from ragx_train.signals import Stop

Loss = Callable[[CepeModel, Batch], Losses]
"""Computes the summed losses of a batch; they are divided by the predictions of the whole step."""


@dataclass(frozen=True)
class Update:
    """The result of a step, over all devices."""

    losses: dict[str, float]
    """Per predicted token; see `Losses`."""
    gradient_norm: float
    """Before clipping."""
    tokens: int
    """Decoder tokens, without padding."""
    encoder_tokens: int
    context_tokens: int
    """M of the longest example."""


class Objective(nn.Module):
    """A batch's loss as a module, which accelerate can distribute over devices."""

    def __init__(self, model: CepeModel, loss: Loss, precision: Literal["bf16", "fp32"]) -> None:
        super().__init__()
        self.model, self.loss, self.precision = model, loss, precision

    def forward(self, batch: Batch) -> Losses:
        with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.loss(self.model, batch)


def batches_of_steps(
    example: Callable[[int], Example], loop: LoopSettings, accelerator: Accelerator, first: int
) -> Iterable[list[Batch]]:
    """The batches of each step for this device, from step `first`; the number of workers does not change them."""
    steps = _Steps(example, loop, accelerator.process_index, accelerator.num_processes)
    return DataLoader(
        steps,
        batch_size=None,
        sampler=range(first, loop.steps),
        num_workers=loop.workers,
        multiprocessing_context="fork" if loop.workers else None,  # shares memory-mapped files and tokenizer
        worker_init_fn=_leave_ctrl_c_to_the_parent,
    )


class _Steps(Dataset[list[Batch]]):
    def __init__(self, example: Callable[[int], Example], loop: LoopSettings, device: int, devices: int) -> None:
        self.example, self.loop, self.device, self.devices = example, loop, device, devices

    def __getitem__(self, step: int) -> list[Batch]:
        size = self.loop.batch_size
        examples = [self.example(position) for position in range(step * size, (step + 1) * size)]
        return micro_batches(examples, self.loop.micro_batch)[self.device :: self.devices]


def _leave_ctrl_c_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def update(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[Batch],
    stop: Stop,
    *,
    max_grad_norm: float,
) -> Update | None:
    """Update the weights by the gradient of a step's mean loss; None if a signal was received before.

    Raises:
        NotFiniteError: the loss or the gradient is infinite or undefined; names the batch. No weight has changed.
    """
    counts = [[batch.predictions, batch.tokens, batch.encoder_tokens] for batch in batches]
    predictions, tokens, encoder_tokens = total(accelerator, torch.tensor(counts).sum(dim=0)).tolist()
    losses: list[Losses] = []
    for number, batch in enumerate(batches, start=1):
        if stop.requested and accelerator.num_processes == 1:  # several devices stop together, after the step
            optimizer.zero_grad()
            return None
        with accelerator.no_sync(objective) if number < len(batches) else nullcontext():
            batch_losses: Losses = objective(batch.to(accelerator.device))
            loss = batch_losses["loss"]
            losses.append({name: value.detach() for name, value in batch_losses.items()})
            # gradients are averaged over devices, but should be summed
            accelerator.backward(loss * (accelerator.num_processes / max(1, predictions)))
    for batch, batch_losses in zip(batches, losses, strict=True):
        _require_finite("loss", batch_losses["loss"], [batch])
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = whole(accelerator.clip_grad_norm_(weights, max_grad_norm))
    _require_finite("gradient", norm, batches)
    if encoder_tokens:  # otherwise masking has left no passage in the whole step, so there is nothing to learn
        optimizer.step()
    optimizer.zero_grad()
    longest = torch.tensor(max(batch.context_tokens for batch in batches))
    longest = accelerator.gather(longest.to(accelerator.device)).max()
    means = _means(accelerator, losses, int(predictions))
    return Update(means, float(norm), int(tokens), int(encoder_tokens), int(longest))


def validate(accelerator: Accelerator, objective: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
    """The losses per predicted token, over all devices."""
    losses: list[Losses] = []
    predictions = 0
    objective.eval()
    with torch.no_grad():
        for first in range(0, len(batches), accelerator.num_processes):
            place = first + accelerator.process_index
            weight = int(place < len(batches))  # a device without a batch must still take part: it repeats one
            batch = batches[place % len(batches)]
            batch_losses: Losses = objective(batch.to(accelerator.device))
            losses.append({name: weight * value for name, value in batch_losses.items()})
            predictions += weight * batch.predictions
    objective.train()
    return _means(accelerator, losses, int(total(accelerator, torch.tensor(predictions))))


def seconds_a_step(
    model: CepeModel, loss: Loss, example: Callable[[int], Example], loop: LoopSettings, clock: Callable[[], float]
) -> float:
    """How long a step takes, measured on `loop.steps` steps after the first, without updating the weights."""
    accelerator = Accelerator(mixed_precision="no")
    objective = Objective(model, loss, loop.precision).to(accelerator.device)
    began = 0.0
    for step, batches in enumerate(batches_of_steps(example, loop, accelerator, first=0)):
        for batch in batches:
            objective(batch.to(accelerator.device))["loss"].backward()
        model.zero_grad()
        if step == 0:  # it also allocates memory and chooses kernels
            began = clock()
    return (clock() - began) / (loop.steps - 1)


def _means(accelerator: Accelerator, losses: Sequence[Losses], predictions: int) -> dict[str, float]:
    """Each loss, summed over devices and divided by their predictions."""
    summed = {name: torch.stack([each[name].double() for each in losses]).sum() for name in losses[0]}
    return {name: float(total(accelerator, value)) / max(1, predictions) for name, value in summed.items()}


def total(accelerator: Accelerator, number: Tensor) -> Tensor:
    """The sum of the devices' numbers."""
    summed: Tensor = accelerator.reduce(number.double().to(accelerator.device), reduction="sum")
    return summed


def _require_finite(what: str, value: Tensor, batches: list[Batch]) -> None:
    if not math.isfinite(value):
        origins = "; ".join(origin for batch in batches for origin in batch.origins)
        raise NotFiniteError(f"the {what} is {float(value)} in the batch from {origins}")
