"""Convert weights in other formats (pickled PyTorch files, GGUF) to safetensors.

Only PyTorch's weights-only loader unpickles; it builds tensors and runs no code.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from ragx.errors import ModelError
from ragx.models import check
from ragx.models.registry import Kind
from ragx.util.terminal import notice
from ragx.util.text import first_line

if TYPE_CHECKING:
    import torch


def finish(folder: Path, name: str, kind: Kind | None) -> Kind:
    """Convert the weights in `folder` if needed, check the model and return its kind.

    Raises:
        ModelError: as `to_safetensors`, `check.settings` and `check.weights`.
    """
    to_safetensors(folder, name)
    kind = check.settings(folder, name, kind)
    check.weights(folder, name)
    return kind


def to_safetensors(folder: Path, name: str) -> None:
    """Convert weights in `folder` that are not safetensors, and remove the original files.

    Raises:
        ModelError: a file cannot be read as weights, or there is more than one .gguf file.
    """
    for file in [folder / path for path in check.files_in(folder) if path.endswith(".bin")]:
        _from_pickle(file, name)
        if (index := file.with_name("pytorch_model.bin.index.json")).is_file():
            _rewrite_index(index, name)
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) > 1:
        raise ModelError(f"{name} has {len(ggufs)} .gguf files: give the path of one")
    if ggufs:
        _from_gguf(ggufs[0], name)


def _from_pickle(file: Path, name: str) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    notice(f"converting {file.name} of {name} to safetensors (once)")
    try:
        with warnings.catch_warnings(action="ignore"):
            tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except UnpicklingError:
        raise ModelError(f"{name}: {file.name} contains more than weights, which ragx does not unpickle") from None
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise ModelError(f"{name}: {file.name} cannot be read ({first_line(error)})") from None
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ModelError(f"{name}: {file.name} contains more than named tensors")
    try:
        save_file(_unshared(tensors), _renamed(file), metadata={"format": "pt"})
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{name}: {file.name} cannot be converted ({first_line(error)})") from None
    file.unlink()


def _renamed(file: Path) -> Path:
    return file.with_name("model" + file.stem.removeprefix("pytorch_model") + ".safetensors")


def _unshared(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy tensors that share memory (an output layer tied to its embedding), which safetensors refuses."""
    seen: set[int] = set()
    result = {}
    for key, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        result[key] = tensor.clone().contiguous() if storage in seen else tensor.contiguous()
        seen.add(storage)
    return result


def _rewrite_index(index: Path, name: str) -> None:
    renamed = {key: _renamed(Path(shard)).name for key, shard in check.shards(index, name).items()}
    index.unlink()
    rewritten = index.with_name(check.INDEX)
    rewritten.unlink(missing_ok=True)  # it may be a link into the Hub's cache
    rewritten.write_text(json.dumps({"metadata": {}, "weight_map": renamed}), encoding="utf-8")


def _from_gguf(file: Path, name: str) -> None:
    """Dequantize a GGUF language model to bfloat16 safetensors, and save its tokenizer."""
    notice(f"dequantizing {name} (once)")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder = file.parent
    try:
        with _quiet():
            model = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
            _split_digits(tokenizer, file)
            tokenizer.model_max_length = model.config.max_position_embeddings
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except Exception as error:  # the GGUF reader raises many classes for damaged files
        raise ModelError(f"{name}: {file.name} cannot be converted ({first_line(error)})") from None
    file.unlink()


def _split_digits(tokenizer: Any, file: Path) -> None:
    """Restore the pre-tokenizer of SmolLM, which transformers mistakes for GPT-2's.

    SmolLM splits digits first. Otherwise, white space before a number becomes tokens that the model was not trained on.
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    pre = GGUFReader(file).get_field("tokenizer.ggml.pre")
    if pre is not None and pre.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bars of loading and saving."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
