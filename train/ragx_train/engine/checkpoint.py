"""Checkpoints: folders that appear whole or not at all.

checkpoints/step-00000200/
  weights.safetensors     what is trained, fp32
  optimizer.safetensors   the optimizer's moments, `<weight>.<moment>`
  state.json              step, tokens seen, randomness, settings, SHA-256 of what they name and of the two files
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ragx.errors import ConfigError, RagxError
from ragx.util.terminal import notice
from ragx.util.text import first_line
from ragx_train.engine.sharding import part_like, whole
from ragx_train.settings import FREE_TO_CHANGE, RecipeSettings

VERSION = 2
KEPT = 2
FOLDER = "checkpoints"
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


class CheckpointError(RagxError):
    """There are checkpoints, but none that can be gone on from."""


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Steps done."""
    tokens: int = 0
    """Decoder tokens seen."""
    encoder_tokens: int = 0
    context_tokens: int = 0
    """M, of the longest example so far."""
    seconds: float = 0.0
    """Of training, with the preparation of its data, over all resumed runs."""


def save(
    out: Path,
    progress: Progress,
    settings: RecipeSettings,
    fingerprint: Mapping[str, str],
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    main: bool = True,
) -> None:
    """Write a checkpoint under `out`, then remove all but the last two. All processes call it, `main` writes.

    `fingerprint` has the SHA-256 of data and models, by the settings that name them.

    Raises:
        RagxError: it cannot be written; the last two stay.
    """
    values = {name: _plain(weight) for name, weight in weights.items()}
    moments = {
        f"{name}.{key}": _plain(value)
        for name, weight in weights.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }
    if not main:
        return
    folder = out / FOLDER / f"step-{progress.step:08d}"
    draft = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        save_file(values, draft / WEIGHTS)
        save_file(moments, draft / OPTIMIZER)
        state = {
            "version": VERSION,
            "progress": asdict(progress),
            "random": torch.get_rng_state().numpy().tobytes().hex(),
            "settings": settings.model_dump(mode="json"),
            "fingerprint": dict(fingerprint),
            "sha256": {name: _sha256(draft / name) for name in (WEIGHTS, OPTIMIZER)},
        }
        (draft / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
        for file in draft.iterdir():
            _sync(file)
    except (OSError, SafetensorError) as error:  # the disk is full, as a rule
        shutil.rmtree(draft, ignore_errors=True)
        raise RagxError(f"cannot write {folder}: {error}; make room, and --resume goes on") from None
    shutil.rmtree(folder, ignore_errors=True)  # a damaged one that this run has gone back behind
    draft.rename(folder)
    _sync(folder.parent)
    for old in _folders(out)[KEPT:]:
        shutil.rmtree(old)


def restore(
    out: Path,
    settings: RecipeSettings,
    fingerprint: Mapping[str, str],
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> Progress:
    """Put the newest whole checkpoint under `out` into weights and optimizer; where there is none, it is step 0.

    Raises:
        ConfigError: it was made with other settings, of those that may not change in a run, or other data or models.
        CheckpointError: there are checkpoints, and all are damaged.
    """
    folders = _folders(out)
    for folder in folders:
        try:
            state, values, moments = _read(folder)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            notice(f"{folder} is damaged ({first_line(error)}): going back to the one before")
            continue
        _compare(settings, state["settings"], folder)
        for key, digest in state["fingerprint"].items():
            if fingerprint.get(key) != digest:
                raise ConfigError(
                    f"what {key} names has changed since {folder} was made: put it back as it was, or start anew with"
                    " another --out"
                )
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(part_like(values[name], weight))
        kept: dict[int, dict[str, Tensor]] = {}
        for number, (name, weight) in enumerate(weights.items()):
            prefix = f"{name}."
            found = {
                key.removeprefix(prefix): part_like(value, weight) if value.shape == weight.shape else value
                for key, value in moments.items()
                if key.startswith(prefix)
            }
            if found:
                kept[number] = found
        optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(torch.frombuffer(bytearray.fromhex(state["random"]), dtype=torch.uint8))
        return Progress(**state["progress"])
    if folders:
        raise CheckpointError(f"no checkpoint in {out / FOLDER} is whole; start anew in another folder")
    return Progress()


def any_in(out: Path) -> bool:
    """Whether a run has left checkpoints there."""
    return bool(_folders(out))


def _folders(out: Path) -> list[Path]:
    """The newest first."""
    found = (out / FOLDER).glob("step-*")
    return sorted((folder for folder in found if not folder.name.endswith(".partial")), reverse=True)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if state["version"] != VERSION:
        raise ValueError(f"its format is version {state['version']}, not {VERSION}")
    for name, digest in state["sha256"].items():
        if _sha256(folder / name) != digest:
            raise ValueError(f"{name} is not as it was written")
    return state, load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER)


def _compare(settings: RecipeSettings, before: dict[str, Any], folder: Path) -> None:
    now, then = _flat(settings.model_dump(mode="json")), _flat(before)
    for key in sorted(now.keys() | then.keys()):
        if key not in FREE_TO_CHANGE and now.get(key) != then.get(key):
            raise ConfigError(f"{key} is {now.get(key)}, but {folder} was made with {then.get(key)}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _plain(tensor: Tensor) -> Tensor:
    return whole(tensor.detach()).cpu().contiguous()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
