"""The training loop of all recipes: `train` takes a model and a function from a position to an example.

Step s, counted from 0, reads the examples at positions s · batch_size to (s + 1) · batch_size − 1. A resumed run, more
devices or smaller micro-batches do not change that.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Protocol

import torch
import yaml
from accelerate import Accelerator, DistributedType
from tqdm import tqdm

from ragx.cepe.added_weights import save_reader
from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError, RagxError
from ragx.util.device import keep_freed_memory
from ragx.util.files import writer_lock
from ragx.util.terminal import is_quiet, notice
from ragx_train.data.example import Example, micro_batches
from ragx_train.engine import checkpoint
from ragx_train.engine import log as record
from ragx_train.engine.checkpoint import Progress
from ragx_train.engine.losses import next_token_loss
from ragx_train.engine.model import READER, fingerprints, trained
from ragx_train.engine.sharding import shard, whole_state
from ragx_train.engine.step import Loss, Objective, batches_of_steps, total, update, validate
from ragx_train.errors import Interrupted, NotFiniteError, OutputError
from ragx_train.settings import LoopSettings, TrainingSettings
from ragx_train.signals import stop_on_signals

Validation = Sequence[Example] | Mapping[str, Sequence[Example]]
"""Held-out examples, or those of several streams by name."""


class Save(Protocol):
    """Writes a trained model without its decoder."""

    def __call__(self, model: CepeModel, folder: Path, *, decoder: str, added: Mapping[str, torch.Tensor]) -> None: ...


@dataclass(frozen=True)
class Run:
    """Where a run is stored, and how long it may take."""

    out: Path
    resume: bool = False
    deadline: float | None = None
    """In seconds of `clock`; the run saves a checkpoint and ends before it."""
    clock: Callable[[], float] = time.monotonic


def train(
    settings: TrainingSettings,
    run: Run,
    model: CepeModel,
    example: Callable[[int], Example],
    validation: Validation,
    fingerprint: Mapping[str, str],
    loss: Loss = next_token_loss,
    save: Save = save_reader,
) -> None:
    """Train the weights of `model` that require gradients; write checkpoints, log, plot and reader to `run.out`.

    The reader has the weights with the lowest validation loss if all steps were done, else the last ones.

    Args:
        settings: of the recipe.
        run: the output folder and the time limit.
        model: in training mode; see `reader_to_train`.
        example: returns the example at a position, always the same for the same position.
        validation: examples that are not trained on. Those of several streams are also logged separately, and their
            mean loss counts.
        fingerprint: digests of the data, by the setting that names them.
        loss: see `Loss`.
        save: writes the trained weights.

    Raises:
        ConfigError: `run.out` has a run that is not being resumed, or was made with other settings, data or models;
            accelerate is configured for FSDP; or the processes cannot share a step's micro-batches equally.
        OutputError: another run is writing to `run.out`, or it cannot be written.
        CheckpointError: all checkpoints are damaged.
        NotFiniteError: a loss or gradient is infinite or undefined; names the step and the batch.
        Interrupted: SIGINT or SIGTERM was received; a checkpoint has been saved.
    """
    accelerator = Accelerator(mixed_precision="no")  # `Objective` does autocast
    with writer_lock(run.out, OutputError) if accelerator.is_main_process else nullcontext():
        _train(accelerator, settings, run, model, example, validation, fingerprint, loss, save)


def _train(
    accelerator: Accelerator,
    settings: TrainingSettings,
    run: Run,
    model: CepeModel,
    example: Callable[[int], Example],
    validation: Validation,
    fingerprint: Mapping[str, str],
    loss: Loss,
    save: Save,
) -> None:
    loop = settings.loop
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    if accelerator.distributed_type == DistributedType.FSDP:  # accelerate would wrap modules other than layers
        raise ConfigError("launch without accelerate's FSDP: --loop.shard=true shards the weights")
    if -(-loop.batch_size // loop.micro_batch) % accelerator.num_processes:
        raise ConfigError(
            f"{accelerator.num_processes} processes cannot share {loop.batch_size} examples in micro-batches of"
            f" {loop.micro_batch} equally: change loop.batch_size or loop.micro_batch"
        )
    objective = Objective(model, loss, loop.precision)
    if loop.shard and accelerator.num_processes > 1:
        shard(objective.to(accelerator.device), model)
    else:
        objective = accelerator.prepare(objective)
    weights = trained(model)
    optimizer = torch.optim.AdamW(
        weights.values(), loop.learning_rate, loop.betas, loop.epsilon, loop.weight_decay, fused=True
    )
    earlier_context = getattr(model.config, "trained_context_tokens", None) or 0
    streams = validation if isinstance(validation, Mapping) else {"": validation}
    held_out = {name: micro_batches(examples, loop.micro_batch) for name, examples in streams.items() if examples}
    fingerprint = {**fingerprints(settings.model), **fingerprint}
    progress = _open(run, settings, fingerprint, weights, optimizer, main=accelerator.is_main_process)
    saved = progress.step
    longest_step = longest_save = 0.0
    main = accelerator.is_main_process

    def save_checkpoint() -> None:
        nonlocal saved, longest_save
        began = run.clock()
        if progress.step > saved:
            checkpoint.save(run.out, progress, settings, fingerprint, weights, optimizer, main=main)
        saved = progress.step
        longest_save = max(longest_save, run.clock() - began)

    def on_any_device(condition: bool) -> bool:
        return bool(total(accelerator, torch.tensor(condition)))

    bar = tqdm(total=loop.steps, initial=progress.step, unit="step")
    if not main:
        bar.disable = True  # as an argument it would override TQDM_DISABLE
    logging = record.logging(run.out if main else None, progress.step)
    with stop_on_signals() as stop, logging as log, bar:
        began = run.clock()
        for batches in batches_of_steps(example, loop, accelerator, first=progress.step):
            rate = learning_rate(progress.step, loop)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with _errors_name_step(progress.step + 1):
                result = update(accelerator, objective, optimizer, batches, stop, max_grad_norm=loop.max_grad_norm)
            if result is None:
                break
            seconds = run.clock() - began
            progress.step += 1
            progress.tokens += result.tokens
            progress.encoder_tokens += result.encoder_tokens
            progress.context_tokens = max(progress.context_tokens, result.context_tokens)
            progress.seconds += seconds
            log.write(
                progress.step,
                **result.losses,
                learning_rate=rate,
                gradient_norm=result.gradient_norm,
                tokens=progress.tokens,
                encoder_tokens=progress.encoder_tokens,
                tokens_per_second=result.tokens / seconds,
                seconds=progress.seconds,
            )
            bar.update()
            bar.set_postfix_str(f"loss {result.losses['loss']:.3f}, {result.tokens / seconds:,.0f} tokens/s")
            last, improved = progress.step == loop.steps, False
            if on_any_device(stop.requested):
                break
            if held_out and (last or progress.step % loop.validate_every == 0):
                of_streams = {name: validate(accelerator, objective, batches) for name, batches in held_out.items()}
                losses = {
                    name: fmean(each[name] for each in of_streams.values()) for name in next(iter(of_streams.values()))
                }
                log.write(
                    progress.step,
                    **{f"validation_{name}": value for name, value in losses.items()},
                    **{f"validation_loss_{name}": each["loss"] for name, each in of_streams.items() if name},
                    validation_perplexity=math.exp(min(losses["loss"], 700)),
                )
                if main and not is_quiet():
                    bar.write(f"step {progress.step}: validation loss {losses['loss']:.3f}", file=sys.stderr)
                if improved := progress.best_loss is None or losses["loss"] < progress.best_loss:
                    progress.best_loss, progress.best_step = losses["loss"], progress.step
            longest_step = max(longest_step, run.clock() - began)
            if improved or progress.step % loop.checkpoint_every == 0:
                save_checkpoint()
            began = run.clock()
            reserve = longest_step + longest_save
            if not last and on_any_device(run.deadline is not None and began + reserve > run.deadline):
                if main:
                    notice(f"time limit reached after step {progress.step} of {loop.steps}: continue with --resume")
                break
        save_checkpoint()
        if on_any_device(stop.requested):
            raise Interrupted(f"stopped by a signal after step {progress.step}: continue with --resume")
    if progress.step == loop.steps and progress.best_step < progress.step and progress.best_loss is not None:
        checkpoint.restore_weights(run.out, progress.best_step, weights)
    if any(".cross_attn." in name for name in weights):  # an encoder trained alone has read no context
        model.config.trained_context_tokens = max(earlier_context, progress.context_tokens)
    added = whole_state(model)
    if main:
        record.plot(run.out)
        save(model, run.out / READER, decoder=settings.model.decoder, added=added)
    # Release all other references to the process group first: if DDP's reducer held the last one, it would wait for
    # gloo's threads while holding the GIL, which one of them may need.
    del objective
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()


def learning_rate(step: int, loop: LoopSettings) -> float:
    """The learning rate of a step, counted from 0: a linear rise over the share `warmup`, then a cosine to 0."""
    rise = max(1, round(loop.warmup * loop.steps))
    if step < rise:
        return loop.learning_rate * (step + 1) / rise
    return loop.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, loop.steps - rise)))


def _open(
    run: Run,
    settings: TrainingSettings,
    fingerprint: Mapping[str, str],
    weights: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    main: bool,
) -> Progress:
    """Start a run in the out folder, or restore its last checkpoint."""
    if not run.resume and checkpoint.any_in(run.out):
        raise ConfigError(f"{run.out} has a run: continue it with --resume, or give another --out")
    progress = checkpoint.restore(run.out, settings, fingerprint, weights, optimizer)
    if main:
        text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
        (run.out / "settings.yaml").write_text(text, encoding="utf-8")
    return progress


@contextmanager
def _errors_name_step(step: int) -> Iterator[None]:
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"step {step}: {error}") from None
    except (MemoryError, RuntimeError) as error:  # torch has its own class only on GPUs
        allocation = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not allocation:
            raise
        advice = "reduce loop.micro_batch, or set loop.activation_checkpointing=true"
        raise RagxError(f"step {step}: out of memory; {advice}") from None
