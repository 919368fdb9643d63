"""The safetensors of a model folder, one file or several."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ragx.errors import ModelError

Shapes = dict[str, list[int]]


def shapes(folder: Path) -> Shapes:
    """The shape of every tensor by its key, from the files' headers.

    Raises:
        ModelError: a file cannot be read.
    """
    found: Shapes = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                found |= {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from None
    return found


def read(folder: Path, keys: Collection[str]) -> dict[str, Tensor]:
    """The tensors of `keys` that are there."""
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys() if key in keys}  # noqa: SIM118
    return found
