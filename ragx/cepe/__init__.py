"""The CEPE model: a passage encoder and cross-attention around a frozen decoder."""

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

    A folder may hold a checkpoint in the authors' layout or a reader saved without its decoder. A plain Llama-family
    decoder becomes a fresh, untrained reader (`model.is_trained` is false), whose logits are the decoder's own.

    Args:
        name_or_folder: a registered name (`ragx models list`), a folder or a Hub id.
        dtype: a torch dtype or its name; None: the fastest on the device.
        device: a torch device, or `auto` for all GPUs; None: a GPU if there is one.
        bits: 8 or 4 quantize the decoder's matrices (bitsandbytes); the weights that the reader adds keep `dtype`.

    Returns:
        A transformers model in eval mode; see `CepeModel` for its arguments and shapes. Its tokenizer is in the folder
        `model.name_or_path`.

    Raises:
        ModelError: the model is missing, damaged, unsupported or too large for the memory.
        ConfigError: the device, number format or `bits` is not available here.
    """
    from ragx.cepe.added_weights import load_reader
    from ragx.cepe.fresh import fresh
    from ragx.cepe.loading import load_checkpoint
    from ragx.cepe.placement import Placement
    from ragx.models import read_config, resolve

    placement = Placement.of(dtype, device, bits)
    folder = resolve(name_or_folder)
    try:
        values = read_config(folder)
        build = load_reader if "decoder" in values else load_checkpoint if "encoder_config" in values else fresh
        return build(folder, placement)
    except ModelError as error:
        raise ModelError(f"{name_or_folder}: {error}") from None
