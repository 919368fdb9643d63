"""ragx's own cross-encoders on disk: what training changed, in int8, around an embedder's frozen embeddings.

config.json          of a BertForSequenceClassification; embedder: {name, sha256}
model.safetensors    the weights that the embedder does not have; an int8 matrix has a `KEY.scale` with one scale a row
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ragx import models
from ragx.errors import ModelError
from ragx.util.files import durable_file, sync_file

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDER = "all-minilm-l6-v2"
"""The embedder from which ragx's cross-encoders are trained."""
_PREFIX, _SCALE = "bert.", ".scale"
_WORDS = "bert.embeddings.word_embeddings.weight"
_TOKENIZER = ("tokenizer", "vocab", "special_tokens")
"""How the names of tokenizer files begin."""


def quantize_reranker(reranker: Path, folder: Path, embedder: str = EMBEDDER) -> None:
    """Copy a BERT cross-encoder, its matrices in int8 and without the weights and tokenizer of an embedder.

    Args:
        reranker: folder that sentence-transformers' `CrossEncoder` saved.
        folder: created if missing; a reranker in it is replaced.
        embedder: the embedder that it was trained from, with frozen embeddings.

    Raises:
        ModelError: it is not such a model, or the copy cannot be written.
    """
    from ragx_kernels.cross_attention import quantize
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    config = models.read_config(models.resolve(str(reranker), "reranker"))
    if "embedder" in config:
        raise ModelError(f"{reranker} is already in int8")
    base_folder = models.resolve(embedder, "embedder")
    base = _base(base_folder)
    result: dict[str, Tensor] = {}
    for key, tensor in _tensors(reranker).items():
        frozen = base.get(key)
        if frozen is not None and frozen.shape == tensor.shape and bool((frozen.to(tensor.dtype) == tensor).all()):
            continue
        if key == _WORDS or config.get("model_type") != "bert":
            raise ModelError(f"{reranker} does not have the embeddings of {embedder}: freeze them in training")
        if tensor.ndim == 2 and len(tensor) > 1:
            result[key], result[key + _SCALE] = quantize(tensor)
        else:
            result[key] = tensor.float()
    values = config | {"embedder": {"name": embedder, "sha256": models.weight_checksums(base_folder)}}
    draft = folder / ".model.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(result, draft, metadata={"format": "pt"})
        draft.chmod(0o644)  # safetensors makes files readable by their owner only
        sync_file(draft)
        draft.replace(folder / "model.safetensors")
        with durable_file(folder / "config.json") as file:
            file.write((json.dumps(values, indent=2) + "\n").encode())
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise ModelError(f"cannot write the reranker {folder}: {error}") from None


@contextmanager
def standard_folder(folder: Path, name: str) -> Iterator[Path]:
    """A folder that transformers reads: `folder`, or a temporary copy in float32 if it is stored as above.

    Raises:
        ModelError: the embedder is missing or not the one it was trained from, or a weight is missing.
    """
    config = models.read_config(folder)
    if "embedder" not in config:
        yield folder
        return
    from ragx_kernels.cross_attention import dequantize
    from safetensors.torch import save_file
    from torch import float32, int8

    embedder = config.pop("embedder")
    base_folder = models.resolve(embedder["name"], "embedder")
    # a named model was checked against the registry; its files on the Hub and in a wheel may differ in layout
    if not models.is_named(embedder["name"]) and models.weight_checksums(base_folder) != embedder.get("sha256"):
        raise ModelError(f"{name} was trained from a different version of {embedder['name']}: SHA-256 differs")
    stored = _tensors(folder)
    state = _base(base_folder)
    try:
        for key, tensor in stored.items():
            if not key.endswith(_SCALE):
                is_int8 = tensor.dtype == int8
                state[key] = dequantize(tensor, stored[key + _SCALE], float32) if is_int8 else tensor
    except KeyError as error:
        raise ModelError(f"{name} is damaged: it has no weight {error}") from None
    with tempfile.TemporaryDirectory(prefix="ragx-reranker-") as copy:
        save_file(state, Path(copy) / "model.safetensors", metadata={"format": "pt"})
        (Path(copy) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        for file in base_folder.iterdir():
            if file.name.startswith(_TOKENIZER):
                shutil.copyfile(file, Path(copy) / file.name)
        yield Path(copy)


def _base(folder: Path) -> dict[str, Tensor]:
    """The weights of an embedder under the names that they have in a cross-encoder."""
    return {
        _PREFIX + key.removeprefix(_PREFIX): tensor
        for key, tensor in _tensors(folder).items()
        if not key.endswith("position_ids")
    }


def _tensors(folder: Path) -> dict[str, Tensor]:
    from ragx.cepe import weights

    return weights.read(folder, weights.shapes(folder).keys())
