"""Checkpoints: folders written atomically.

checkpoints/step-00000200/
  weights.safetensors     trained weights, fp32
  optimizer.safetensors   the optimizer's moments, `<weight>.<moment>`
  state.json              progress, random state, settings, and SHA-256 of inputs and of the two files
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ragx.errors import ConfigError
from ragx.util.files import durable_folder, sha256
from ragx.util.settings import Settings
from ragx.util.terminal import notice
from ragx.util.text import first_line
from ragx_train.engine.sharding import part_like, whole
from ragx_train.errors import CheckpointError, OutputError
from ragx_train.settings import FREE_TO_CHANGE, TrainingSettings

VERSION = 2
KEPT = 2
FOLDER = "checkpoints"
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


@dataclass
class Progress:
    """The progress of a run."""

    step: int = 0
    """Steps done."""
    tokens: int = 0
    """Decoder tokens read."""
    encoder_tokens: int = 0
    context_tokens: int = 0
    """M of the longest example so far."""
    seconds: float = 0.0
    """Time spent on training and its data, over all resumed runs."""
    best_loss: float | None = None
    """Lowest validation loss so far."""
    best_step: int = 0
    """The step after which it was measured."""


def save(
    out: Path,
    progress: Progress,
    settings: TrainingSettings,
    fingerprint: Mapping[str, str],
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    main: bool = True,
) -> None:
    """Write a checkpoint under `out`, then remove all but the best and the last two.

    All processes call it; only `main` writes.

    `fingerprint` maps the settings that name data and models to their SHA-256.

    Raises:
        OutputError: it cannot be written; earlier checkpoints are kept.
    """
    values = {name: _on_cpu(weight) for name, weight in weights.items()}
    moments = {
        f"{name}.{key}": _on_cpu(value)
        for name, weight in weights.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }
    if not main:
        return
    folder = _folder(out, progress.step)
    try:
        with durable_folder(folder, OutputError) as draft:
            save_file(values, draft / WEIGHTS)
            save_file(moments, draft / OPTIMIZER)
            state = {
                "version": VERSION,
                "progress": asdict(progress),
                "random": torch.get_rng_state().numpy().tobytes().hex(),
                "settings": settings.model_dump(mode="json"),
                "fingerprint": dict(fingerprint),
                "sha256": {name: sha256(draft / name) for name in (WEIGHTS, OPTIMIZER)},
            }
            (draft / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    except (OutputError, SafetensorError) as error:
        raise OutputError(f"no checkpoint {folder}: {error}; free disk space and continue with --resume") from None
    for old in _folders(out)[KEPT:]:
        if old != _folder(out, progress.best_step):
            shutil.rmtree(old)


def restore(
    out: Path,
    settings: TrainingSettings,
    fingerprint: Mapping[str, str],
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> Progress:
    """Load the newest intact checkpoint under `out` into weights and optimizer; without checkpoints, step 0.

    Raises:
        ConfigError: it was made with other data, models, or settings that must not change within a run.
        CheckpointError: all checkpoints are damaged.
    """
    folders = _folders(out)
    for folder in folders:
        try:
            state, values, moments = _read(folder)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            notice(f"{folder} is damaged ({first_line(error)}): trying the previous one")
            continue
        compare(settings, fingerprint, state, folder)
        _copy_weights(values, weights)
        optimizer_state: dict[int, dict[str, Tensor]] = {}
        for number, (name, weight) in enumerate(weights.items()):
            prefix = f"{name}."
            of_weight = {
                key.removeprefix(prefix): part_like(value, weight) if value.shape == weight.shape else value
                for key, value in moments.items()
                if key.startswith(prefix)
            }
            if of_weight:
                optimizer_state[number] = of_weight
        optimizer.load_state_dict({"state": optimizer_state, "param_groups": optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(torch.frombuffer(bytearray.fromhex(state["random"]), dtype=torch.uint8))
        return Progress(**state["progress"])
    if folders:
        raise CheckpointError(f"every checkpoint in {out / FOLDER} is damaged: start anew with another --out")
    return Progress()


def restore_weights(out: Path, step: int, weights: Mapping[str, nn.Parameter]) -> None:
    """Load the weights of the checkpoint after `step`.

    Raises:
        CheckpointError: it is damaged.
    """
    folder = _folder(out, step)
    try:
        _, values, _ = _read(folder)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is damaged ({first_line(error)})") from None
    _copy_weights(values, weights)


def compare(settings: Settings, fingerprint: Mapping[str, str], state: Mapping[str, Any], saved: Path) -> None:
    """Check that a run continues with the settings and inputs that it was saved with, `state` in `saved`.

    Raises:
        ConfigError: one of them has changed.
    """
    now, then = _flat(settings.model_dump(mode="json")), _flat(state["settings"])
    for key in sorted(now.keys() | then.keys()):
        if key not in FREE_TO_CHANGE and now.get(key) != then.get(key):
            raise ConfigError(f"{key} is {now.get(key)}, but {saved} was saved with {then.get(key)}")
    for key, digest in state["fingerprint"].items():
        if fingerprint.get(key) != digest:
            raise ConfigError(
                f"{key}: its content has changed since {saved} was saved: restore it, or start anew with another --out"
            )


def any_in(out: Path) -> bool:
    """Whether `out` has checkpoints."""
    return bool(_folders(out))


def _folders(out: Path) -> list[Path]:
    """Newest first; without drafts."""
    return sorted((out / FOLDER).glob(f"step-{'[0-9]' * 8}"), reverse=True)


def _folder(out: Path, step: int) -> Path:
    return out / FOLDER / f"step-{step:08d}"


@torch.no_grad()
def _copy_weights(values: Mapping[str, Tensor], weights: Mapping[str, nn.Parameter]) -> None:
    for name, weight in weights.items():
        weight.copy_(part_like(values[name], weight))


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if state["version"] != VERSION:
        raise ValueError(f"its format version is {state['version']}, not {VERSION}")
    for name, digest in state["sha256"].items():
        if sha256(folder / name) != digest:
            raise ValueError(f"{name} has another checksum")
    return state, load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _on_cpu(tensor: Tensor) -> Tensor:
    return whole(tensor.detach()).cpu().contiguous()
