"""Training of the packed settings, and the speed of a step: `python -m benchmarks.gpu.train WORK OUT SECONDS`.

A step on random tokens is measured, on a GPU with and without compiled layers; training uses the faster. On a GPU, a
step below `GOAL` of the matrix rate is profiled. Settings without a time limit are trained for `loop.steps`.
"""

from __future__ import annotations

import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import torch
from ragx_train.data.example import Batch, collate
from ragx_train.data.streams import continuation
from ragx_train.engine import checkpoint
from ragx_train.engine import log as record
from ragx_train.engine.loop import Run
from ragx_train.engine.losses import next_token_loss
from ragx_train.engine.model import READER, reader_to_train, trained
from ragx_train.engine.step import Objective
from ragx_train.errors import Interrupted
from ragx_train.recipes.reader import ReaderSettings
from ragx_train.recipes.reader import run as train_reader
from ragx_train.recipes.reader.options import StageSettings

from benchmarks.gpu.__main__ import READER_PART
from benchmarks.gpu.parts import split
from benchmarks.gpu.readers import model_settings, packed_settings
from benchmarks.tables import markdown
from benchmarks.training_step import operations
from ragx.cepe.added_weights import quantize_reader, save_reader
from ragx.errors import RagxError
from ragx.util.device import default_device
from ragx.util.settings import load_settings

GOAL = 0.3
RESERVE = 20.0
"""Seconds to write the reader."""
REPEATS = 4


def main(work: Path, out: Path, seconds: float, overrides: list[str]) -> None:
    began = time.monotonic()
    end = began + seconds - min(RESERVE, seconds / 5)
    settings = packed_settings(work, overrides)
    compile = measure(settings, out)
    for attempt, compiled in enumerate((compile, False)):
        folder = work / f"attempt-{attempt}"
        limit = None if settings.time_limit is None else max(1.0, end - time.monotonic())
        micro_batch = max(1, settings.loop.micro_batch >> attempt)
        loop = settings.loop.model_copy(update={"compile": compiled, "micro_batch": micro_batch})
        try:
            train_reader(
                settings.model_copy(update={"loop": loop, "time_limit": limit}),
                Run(folder, resume=(folder / "settings.yaml").exists()),
            )
            break
        except Interrupted:
            break
        except Exception:  # of the compiler, or out of memory
            traceback.print_exc()
            how = "compiled" if compiled else "not compiled"
            print(f"Training failed, {how}, in micro-batches of {micro_batch}: see log.txt.\n")
            if time.monotonic() > began + seconds / 2:  # its last checkpoint is worth more than a new run
                break
    if not (folder / READER / "config.json").exists():
        salvage(folder, settings)
    report(folder)
    split(folder / READER, out, "reader", READER_PART)


def measure(settings: ReaderSettings, out: Path) -> bool:
    """Print the speed of a step, and return whether compiled layers are faster."""
    device = default_device()
    rate = matrix_rate(device)
    rows, faster = [], {}
    for compile in (False, True) if device == "cuda" else (False,):
        loop = settings.loop.model_copy(update={"compile": compile})
        model, _ = reader_to_train(model_settings(settings), loop)
        data, vocabulary = settings.data, model.config.vocab_size
        length = data.encoder_tokens + data.decoder_tokens
        texts = torch.randint(vocabulary // 2, (loop.micro_batch, length)).tolist()
        batch = collate([continuation((text, "random"), data.chunk, data.encoder_tokens) for text in texts])
        objective = Objective(model, next_token_loss, loop.precision).to(device)
        batch = batch.to(torch.device(device))
        try:
            seconds = _seconds(objective, batch, device)
        except Exception:  # a compiler can be missing or fail in any way
            traceback.print_exc()
            rows.append(("compiled", "failed", "", ""))
            continue
        faster[compile] = seconds
        work = loop.micro_batch * operations(model, data.encoder_tokens, data.chunk, data.decoder_tokens)
        share, name = work / seconds / rate, "compiled" if compile else "eager"
        rows.append((name, f"{seconds:.3f}", f"{loop.micro_batch * length / seconds:,.0f}", f"{share:.0%}"))
        if device == "cuda" and share < GOAL:
            _profile(objective, batch, out / f"profile-{name}.txt")
    head = f"{_name(device)}: {rate / 1e12:,.1f} TFLOP/s in a bf16 matrix product."
    columns = ("micro-batch of text, forward and backward", "s", "tokens/s", "share of that rate")
    print(f"{head}\n\n{markdown(columns, rows)}\n", flush=True)
    return faster.get(True, float("inf")) < faster.get(False, float("inf"))


def matrix_rate(device: str) -> float:
    """Operations a second of a bf16 matrix product of random numbers."""
    side, times = (8192, 20) if device == "cuda" else (512, 4)
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    _ = left @ right
    _wait(device)
    began = time.perf_counter()
    for _ in range(times):
        _ = left @ right
    _wait(device)
    return times * 2 * side**3 / (time.perf_counter() - began)


def salvage(folder: Path, settings: ReaderSettings) -> None:
    """Write the reader of an unfinished run: that of the last finished stage, or of the newest checkpoint after it."""
    for stage in sorted(folder.glob("stages/*"), reverse=True):
        unfinished = stage / READER
        if not (unfinished / "config.json").exists() and checkpoint.any_in(stage):
            of_stage = load_settings(StageSettings, stage / "settings.yaml")
            model, _ = reader_to_train(of_stage.model, of_stage.loop)
            step = max(int(each.name.removeprefix("step-")) for each in (stage / checkpoint.FOLDER).glob("step-*[0-9]"))
            checkpoint.restore_weights(stage, step, trained(model))
            save_reader(model, unfinished, decoder=settings.model.decoder)
        if (unfinished / "config.json").exists():
            quantize_reader(unfinished, folder / READER, settings.prompted_gain, settings.cross_attend, settings.within)
            print(f"Training was not finished: the reader is that of {stage.name}.\n")
            return
    raise RagxError("training was stopped before its first checkpoint")


def report(folder: Path) -> None:
    """Print what each stage did."""
    rows = []
    for stage in sorted(folder.glob("stages/*")):
        with suppress(FileNotFoundError):
            log = record.read(stage)
            steps = [each for each in log if "tokens" in each]
            losses = [each["validation_loss"] for each in log if "validation_loss" in each]
            last = steps[-1]
            tokens, seconds = last["tokens"] + last["encoder_tokens"], last["seconds"]
            lost = f"{losses[0]:.3f} to {losses[-1]:.3f}" if losses else ""
            rows.append((stage.name, last["step"], f"{tokens:,}", f"{seconds:.0f}", f"{tokens / seconds:,.0f}", lost))
    print(markdown(("stage", "steps", "tokens of both", "s", "tokens/s", "held-out loss"), rows))


def _seconds(objective: Objective, batch: Batch, device: str) -> float:
    """The fastest of several steps."""
    times = []
    for _ in range(REPEATS):
        _wait(device)
        began = time.perf_counter()
        objective(batch)["loss"].backward()
        objective.zero_grad()
        _wait(device)
        times.append(time.perf_counter() - began)
    return min(times)


def _profile(objective: Objective, batch: Batch, path: Path) -> None:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
        objective(batch)["loss"].backward()
        _wait("cuda")
    objective.zero_grad()
    tables = [
        trace.key_averages().table(sort_by=key, row_limit=40) for key in ("self_cuda_time_total", "self_cpu_time_total")
    ]
    path.write_text("\n\n".join(tables), encoding="utf-8")


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
