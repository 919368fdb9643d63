"""Weights that were dequantized from a GGUF file, in the blocks of that file: a third of their size, and exact.

A block has 32 weights of a row: in `Q8_0` a scale and 32 numbers of 8 bits, in `Q4_1` a scale, a minimum and 32 numbers
of 4 bits. Needs NumPy alone, as the machine with the GPU may have no `gguf`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

HEADER, PLAIN = "header", "plain"
Bytes = NDArray[np.uint8]
Halves = NDArray[np.uint16]
"""bfloat16, which NumPy does not know."""


def shrink(weights: Path, gguf: Path, out: Path) -> bool:
    """Write the bfloat16 `weights` (safetensors) to `out`, as blocks of `gguf` where they are its own.

    Returns:
        Whether any are.
    """
    from gguf import GGUFReader
    from gguf.constants import MODEL_ARCH
    from gguf.tensor_mapping import get_tensor_name_map

    config = json.loads(weights.with_name("config.json").read_text(encoding="utf-8"))
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    blocks = {tensor.name: tensor for tensor in GGUFReader(gguf).tensors}
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    header, data = _read(weights)
    stored: dict[str, NDArray[Any]] = {HEADER: np.frombuffer(header, np.uint8)}
    for key, plain in data.items():
        tensor = blocks.get(names.get_name(key, try_suffixes=(".weight",)) or "")
        kind, rows = ("", None) if tensor is None else (tensor.tensor_type.name, np.asarray(tensor.data))
        found = None
        if rows is not None and kind in DEQUANTIZE:
            part = key.split(".")[-2]
            rows = rows[_rope_order(len(rows), heads[part])] if part in heads else rows
            found = rows if np.array_equal(bfloat16(DEQUANTIZE[kind](rows)), plain) else None
        stored[f"{PLAIN if found is None else kind} {key}"] = plain if found is None else found
    save_file(stored, out)
    return any(not key.startswith((HEADER, PLAIN)) for key in stored)


def restore(shrunk: Path, out: Path) -> None:
    """Write the file that `shrink` read, byte by byte."""
    stored = load_file(shrunk)
    header = stored.pop(HEADER).tobytes()
    tensors = {}
    for key, values in stored.items():
        kind, name = key.split(" ", 1)
        tensors[name] = values if kind == PLAIN else bfloat16(DEQUANTIZE[kind](values))
    with out.open("wb") as file:
        file.write(header)
        for name, _ in _places(header):
            file.write(np.ascontiguousarray(tensors[name]).tobytes())


def bfloat16(values: NDArray[np.float32]) -> Halves:
    """Rounded to the nearest, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _q8_0(rows: Bytes) -> NDArray[np.float32]:
    blocks = rows.reshape(len(rows), -1, 34)
    scale = blocks[..., :2].copy().view(np.float16).astype(np.float32)
    values: NDArray[np.float32] = scale * blocks[..., 2:].copy().view(np.int8).astype(np.float32)
    return values.reshape(len(rows), -1)


def _q4_1(rows: Bytes) -> NDArray[np.float32]:
    blocks = rows.reshape(len(rows), -1, 20)
    scale, least = (blocks[..., at : at + 2].copy().view(np.float16).astype(np.float32) for at in (0, 2))
    numbers = np.concatenate([blocks[..., 4:] & 15, blocks[..., 4:] >> 4], axis=-1)
    values: NDArray[np.float32] = scale * numbers.astype(np.float32) + least
    return values.reshape(len(rows), -1)


DEQUANTIZE = {"Q8_0": _q8_0, "Q4_1": _q4_1}


def _rope_order(rows: int, heads: int) -> NDArray[np.intp]:
    """Rows of llama.cpp's queries and keys, whose rotated pairs are neighbours, in the order of transformers."""
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).ravel()


def _read(weights: Path) -> tuple[bytes, dict[str, Halves]]:
    raw = np.memmap(weights, np.uint8, mode="r")
    header = raw[: 8 + int(raw[:8].view(np.uint64)[0])].tobytes()
    data = {}
    for key, values in _places(header):
        if values["dtype"] != "BF16":
            raise ValueError(f"{weights}: {key} is {values['dtype']}, not BF16")
        start, end = (len(header) + offset for offset in values["data_offsets"])
        data[key] = raw[start:end].view(np.uint16).reshape(values["shape"])
    return header, data


def _places(header: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The tensors of a safetensors header, in the order of their bytes."""
    values: dict[str, dict[str, Any]] = json.loads(header[8:])
    values.pop("__metadata__", None)
    return sorted(values.items(), key=lambda item: item[1]["data_offsets"])
