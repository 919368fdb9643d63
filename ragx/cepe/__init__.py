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
    tensor_parallel: bool = False,
    plain: bool = False,
    rope_scaling: str | None = None,
    decoder: str | None = None,
) -> CepeModel:
    """Load a reader by name, folder or Hub id.

    A folder may hold a checkpoint in the authors' layout or a reader saved without its decoder. A plain Llama-family
    decoder becomes a fresh, untrained reader (`model.is_trained` is false), whose logits are the decoder's own.

    Args:
        name_or_folder: a registered name (`ragx models list`), a folder or a Hub id.
        dtype: a torch dtype or its name; None: the fastest on the device.
        device: a torch device, or `auto` for all GPUs; None: a GPU if there is one.
        bits: 8 or 4 quantize the decoder's matrices (bitsandbytes); the weights that the reader adds keep `dtype`.
        tensor_parallel: divide the decoder's matrices over the processes of torchrun instead (`device` is ignored);
            encoder and cross-attention are whole in each. All processes must make the same calls.
        plain: give a plain decoder neither an encoder nor cross-attention, which would take memory for nothing.
        rope_scaling: `yarn:FACTOR` or `linear:FACTOR` stretches the decoder's positions over a longer window.
        decoder: a fine-tuned derivative of the decoder of a reader saved without it, to take its place.

    Returns:
        A transformers model in eval mode; see `CepeModel` for its arguments and shapes. Its tokenizer is in the folder
        `model.name_or_path`.

    Raises:
        ModelError: the model is missing, damaged, unsupported or too large for the memory.
        ConfigError: the device, number format, `bits` or `tensor_parallel` is not available here, or the decoder's
            positions are already stretched.
    """
    from ragx.cepe.added_weights import load_reader
    from ragx.cepe.fresh import fresh
    from ragx.cepe.loading import load_checkpoint
    from ragx.cepe.placement import Placement
    from ragx.cepe.rope import stretch
    from ragx.models import read_config, resolve

    placement = Placement.of(dtype, device, bits, tensor_parallel=tensor_parallel)
    folder = resolve(name_or_folder)
    try:
        values = read_config(folder)
        if "decoder" in values:
            model = load_reader(folder, placement, decoder)
        elif decoder is not None:
            raise ModelError("only a reader saved without its decoder can have another one")
        elif "encoder_config" in values:
            model = load_checkpoint(folder, placement)
        elif plain:
            model = fresh(folder, placement, encoder_layers=[], cross_attention_layers=[])
        else:
            model = fresh(folder, placement)
    except ModelError as error:
        raise ModelError(f"{name_or_folder}: {error}") from None
    if rope_scaling is not None:
        stretch(model, rope_scaling)
    return model
