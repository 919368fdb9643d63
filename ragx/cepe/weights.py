"""The safetensors of a model folder, one file or several."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ragx.errors import ModelError
from ragx.models import check

Shapes = dict[str, list[int]]


def shapes(folder: Path) -> Shapes:
    """The shape of every tensor by its key, from the files' headers.

    Raises:
        ModelError: a file cannot be read.
    """
    found: Shapes = {}
    for path in _files(folder):
        try:
            with safe_open(path, "pt") as file:
                found |= {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from None
    return found


def read(folder: Path, keys: Collection[str]) -> dict[str, Tensor]:
    """The tensors of `keys` that are there."""
    found: dict[str, Tensor] = {}
    for path in _files(folder):
        with safe_open(path, "pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys() if key in keys}  # noqa: SIM118
    return found


def _files(folder: Path) -> list[Path]:
    """Neither the draft of a save that was killed nor the same weights in another layout is the model's."""
    return sorted(path for path in folder.iterdir() if check.WEIGHTS.fullmatch(path.name))
