"""Which decoders of the registry fit this machine, and which of them have a trained reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ragx.models import check, local, registry
from ragx.util.device import default_device, free_memory
from ragx.util.text import gib

Device = Literal["cpu", "cuda"]
FORMATS: dict[Device, dict[str, float]] = {
    "cpu": {"": 4, "--dtype bfloat16": 2},  # compiled once from float32
    "cuda": {"": 2, "--bits 8": 1, "--bits 4": 0.5625},
}
"""Bytes a weight by the option that asks for the format, the best first; without an option: the default."""
MARGIN = 1.25
"""Memory for a model and its caches, passages and answers, as a multiple of its weights."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A decoder, and whether it fits."""

    name: str
    parameters: int
    window: int
    license: str
    needs: int
    """Bytes in the default format, or in that of `option`."""
    fits: bool
    option: str
    """Without it, the decoder does not fit."""
    reader: str | None
    """A trained CEPE reader around it that comes with ragx; without one, it reads as `full`."""


def recommend(device: Device, free: int) -> list[Recommendation]:
    """The decoders of the registry, smallest first, for a device with `free` bytes of memory."""
    bases = {name: check.base_of(folder, name) for name, folder in local.bundled().items()}
    readers = {base[0]: name for name, base in bases.items() if base and base[1] == "decoder"}
    return [
        _recommendation(entry, entry.parameters, entry.window, device, free, readers.get(entry.name))
        for entry in sorted(registry.entries(), key=lambda entry: entry.parameters or 0)
        if entry.parameters and entry.window
    ]


def this_machine() -> tuple[Device, int]:
    """The default device and its free memory in bytes."""
    device: Device = "cuda" if default_device() == "cuda" else "cpu"
    return device, free_memory(device)


def summary(rows: Sequence[Recommendation], device: Device, free: int) -> str:
    """The recommendation in one line."""
    where = f"{gib(free)} of free memory ({device})"
    fitting = [row for row in rows if row.fits]
    if not fitting:
        return f"no decoder of the registry fits {where}"
    largest = fitting[-1]
    option = f" with {largest.option}" if largest.option else ""
    trained = ", ".join(row.reader for row in fitting if row.reader) or "none"
    advice = f"{largest.name}{option} is the largest decoder for {where}, smaller ones answer faster"
    return f"{advice}; trained readers that fit: {trained}"


def _recommendation(
    entry: registry.Entry, parameters: int, window: int, device: Device, free: int, reader: str | None
) -> Recommendation:
    sizes = {option: int(parameters * size * MARGIN) for option, size in FORMATS[device].items()}
    option = next((option for option, size in sizes.items() if size <= free), None)
    chosen = option or ""
    return Recommendation(
        name=entry.name,
        parameters=parameters,
        window=window,
        license=entry.license or "unknown",
        needs=sizes[chosen],
        fits=option is not None,
        option=chosen,
        reader=reader,
    )
