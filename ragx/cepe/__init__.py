"""The CEPE model: a passage encoder, cross-attention, and how they join a frozen decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragx.errors import ModelError

if TYPE_CHECKING:
    import torch

    from ragx.cepe.model import CepeModel

__all__ = ["load"]


def load(
    name_or_folder: str,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | None = None,
    bits: int | None = None,
) -> CepeModel:
    """Load a reader by name, folder or Hub id.

    A checkpoint in the authors' layout loads as it is, and one of ragx's own around its decoder. A plain Llama-family
    decoder becomes a fresh, untrained reader (`model.is_trained` is false), whose logits are the decoder's own.

    Args:
        name_or_folder: a registered name (`ragx models list`), a folder or a Hub id.
        dtype: a torch dtype or its name; None: what the device multiplies fastest.
        device: a torch device, or `auto` for all GPUs; None: a GPU where there is one.
        bits: 8 or 4 hold the frozen decoder's matrices in so many bits (bitsandbytes); what the reader adds stays as
            `dtype` says.

    Returns:
        A transformers model in eval mode; see `CepeModel` for its arguments and shapes. Its tokenizer is in the folder
        `model.name_or_path`.

    Raises:
        ModelError: the model is missing, damaged, of an unusable kind or too large for the memory.
        ConfigError: the device, number format or `bits` cannot be had here.
    """
    from ragx.cepe.added_weights import load_reader
    from ragx.cepe.fresh import fresh
    from ragx.cepe.loading import load_checkpoint, read_config
    from ragx.cepe.placement import Placement
    from ragx.models import resolve

    placement = Placement.checked(dtype, device, bits)
    folder = resolve(name_or_folder)
    try:
        values = read_config(folder)
        build = load_reader if "decoder" in values else load_checkpoint if "encoder_config" in values else fresh
        return build(folder, placement)
    except ModelError as error:
        raise ModelError(f"{name_or_folder}: {error}") from None
