"""Read the safetensors files of a model folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ragx.errors import ModelError
from ragx.models import check

Shapes = dict[str, list[int]]


def shapes(folder: Path) -> Shapes:
    """The shape of every tensor by key, from the files' headers.

    Raises:
        ModelError: a file cannot be read.
    """
    shapes: Shapes = {}
    for path in _files(folder):
        try:
            with safe_open(path, "pt") as file:
                shapes |= {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from None
    return shapes


def read(folder: Path, keys: Collection[str]) -> dict[str, Tensor]:
    """The tensors of `keys` that the files hold."""
    tensors: dict[str, Tensor] = {}
    for path in _files(folder):
        with safe_open(path, "pt") as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys() if key in keys}  # noqa: SIM118
    return tensors


def _files(folder: Path) -> list[Path]:
    """The model's weight files, without drafts of interrupted saves and copies in other layouts."""
    return sorted(path for path in folder.iterdir() if check.WEIGHTS.fullmatch(path.name))
