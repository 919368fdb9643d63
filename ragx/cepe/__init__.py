"""The CEPE model: a passage encoder, cross-attention, and how they join a frozen decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragx.errors import ModelError
from ragx.hardware import parse_dtype, usable_device

if TYPE_CHECKING:
    import torch

    from ragx.cepe.model import CepeModel

__all__ = ["load"]


def load(name_or_folder: str, *, dtype: str | torch.dtype | None = None, device: str | None = None) -> CepeModel:
    """Load a reader by name, folder or Hub id.

    A checkpoint in the authors' layout loads as it is. A plain Llama-family decoder becomes a fresh, untrained reader
    (`model.is_trained` is false), whose logits are the decoder's own.

    Args:
        name_or_folder: a registered name (`ragx models list`), a folder or a Hub id.
        dtype: a torch dtype or its name; None: what the device multiplies fastest.
        device: a torch device; None: a GPU where there is one.

    Returns:
        A transformers model in eval mode; see `CepeModel` for its arguments and shapes.

    Raises:
        ModelError: the model is missing, damaged or of an unusable kind.
    """
    from ragx.cepe.loading import fresh, is_checkpoint, load_checkpoint
    from ragx.models import resolve

    device = usable_device(device)
    number_format = parse_dtype(dtype, device)
    folder = resolve(name_or_folder)
    build = load_checkpoint if is_checkpoint(folder) else fresh
    try:
        return build(folder, dtype=number_format, device=device)
    except ModelError as error:
        raise ModelError(f"{name_or_folder}: {error}") from None
