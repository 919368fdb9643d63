"""The training loop of all recipes: `train` takes a model and a function from a position to an example.

The examples of step s (from 0 on) are those at positions s · batch_size to (s + 1) · batch_size − 1. A resumed run, one
with more devices, or one with smaller micro-batches sees the same ones in the same steps.
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

import torch
import yaml
from accelerate import Accelerator, DistributedType
from tqdm import tqdm

from ragx.cepe.added_weights import save_reader
from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError, RagxError
from ragx.util.device import keep_freed_memory
from ragx.util.files import writer_lock
from ragx.util.terminal import notice
from ragx_train.data.example import Example, micro_batches
from ragx_train.engine import checkpoint
from ragx_train.engine import log as record
from ragx_train.engine.checkpoint import Progress
from ragx_train.engine.losses import next_token_loss
from ragx_train.engine.model import READER, fingerprints, trained
from ragx_train.engine.sharding import shard, whole_state
from ragx_train.engine.step import Loss, NotFiniteError, Objective, batches_of_steps, total, update, validate
from ragx_train.settings import LoopSettings, RecipeSettings
from ragx_train.signals import Interrupted, stop_on_signals


@dataclass(frozen=True)
class Run:
    """Where a recipe leaves what it makes, and how long it may take."""

    out: Path
    resume: bool = False
    deadline: float | None = None
    """By `time.monotonic`; the run ends before it, with a checkpoint."""


def train(
    settings: RecipeSettings,
    run: Run,
    model: CepeModel,
    example: Callable[[int], Example],
    validation: Sequence[Example],
    fingerprint: Mapping[str, str],
    loss: Loss = next_token_loss,
) -> None:
    """Train what wants gradients in `model`, and leave checkpoints, log, plot and reader in `run.out`.

    Args:
        settings: of the recipe.
        run: where and how long.
        model: in training mode; see `reader_to_train`.
        example: the example at a position, always the same for the same position.
        validation: examples that are not trained on.
        fingerprint: a digest of the data that examples are made of, by the setting that names them.
        loss: see `Loss`.

    Raises:
        ConfigError: `run.out` holds a run that is not to be resumed, or was made with other settings, data or models;
            accelerate is to use FSDP; or the processes cannot each have as many of a step's micro-batches.
        IndexFolderError: another run is writing to `run.out`, or it cannot be written.
        NotFiniteError: a loss or gradient is infinite or undefined; names the step and the batch.
        Interrupted: Ctrl-C or SIGTERM came; a checkpoint has been saved.
    """
    accelerator = Accelerator(mixed_precision="no")  # the objective sees to it
    with writer_lock(run.out) if accelerator.is_main_process else nullcontext():
        _train(accelerator, settings, run, model, example, validation, fingerprint, loss)


def _train(
    accelerator: Accelerator,
    settings: RecipeSettings,
    run: Run,
    model: CepeModel,
    example: Callable[[int], Example],
    validation: Sequence[Example],
    fingerprint: Mapping[str, str],
    loss: Loss,
) -> None:
    loop = settings.loop
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    if accelerator.distributed_type == DistributedType.FSDP:  # accelerate would wrap what is not a layer
        raise ConfigError("launch without accelerate's FSDP: --loop.shard=true spreads the weights over the GPUs")
    if -(-loop.batch_size // loop.micro_batch) % accelerator.num_processes:
        raise ConfigError(
            f"a step's {loop.batch_size} examples in micro-batches of {loop.micro_batch} cannot be shared out to"
            f" {accelerator.num_processes} processes: change loop.batch_size or loop.micro_batch"
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
    model.config.trained_context_tokens = None  # nothing that is trained on lies beyond training
    held_out = micro_batches(validation, loop.micro_batch)
    fingerprint = {**fingerprints(settings.model), **fingerprint}
    progress = _open(run, settings, fingerprint, weights, optimizer, main=accelerator.is_main_process)
    saved = progress.step
    longest_step = longest_save = 0.0
    main = accelerator.is_main_process

    def save() -> None:
        nonlocal saved, longest_save
        began = time.monotonic()
        if progress.step > saved:
            checkpoint.save(run.out, progress, settings, fingerprint, weights, optimizer, main=main)
        saved = progress.step
        longest_save = max(longest_save, time.monotonic() - began)

    def agreed(wish: bool) -> bool:  # one device's wish is all devices'
        return bool(total(accelerator, torch.tensor(wish)))

    bar = tqdm(total=loop.steps, initial=progress.step, unit="step")
    if not main:
        bar.disable = True  # given as an argument, it would outdo TQDM_DISABLE
    logging = record.logging(run.out if main else None, progress.step)
    with stop_on_signals() as stop, logging as log, bar:
        began = time.monotonic()
        for batches in batches_of_steps(example, loop, accelerator, first=progress.step):
            rate = learning_rate(progress.step, loop)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with _naming_the_step(progress.step + 1):
                done = update(accelerator, objective, optimizer, batches, stop, max_grad_norm=loop.max_grad_norm)
            if done is None:
                break
            seconds = time.monotonic() - began
            progress.step += 1
            progress.tokens += done.tokens
            progress.encoder_tokens += done.encoder_tokens
            progress.context_tokens = max(progress.context_tokens, done.context_tokens)
            progress.seconds += seconds
            log.write(
                progress.step,
                **done.losses,
                learning_rate=rate,
                gradient_norm=done.gradient_norm,
                tokens=progress.tokens,
                encoder_tokens=progress.encoder_tokens,
                tokens_per_second=done.tokens / seconds,
                seconds=progress.seconds,
            )
            bar.update()
            bar.set_postfix_str(f"loss {done.losses['loss']:.3f}, {done.tokens / seconds:,.0f} tokens/s")
            last = progress.step == loop.steps
            if agreed(stop.requested):
                break
            if held_out and (last or progress.step % loop.validate_every == 0):
                found = validate(accelerator, objective, held_out)
                held_out_loss = found["loss"]
                log.write(
                    progress.step,
                    **{f"validation_{name}": value for name, value in found.items()},
                    validation_perplexity=math.exp(min(held_out_loss, 700)),
                )
                if main:
                    bar.write(f"step {progress.step}: validation loss {held_out_loss:.3f}", file=sys.stderr)
            longest_step = max(longest_step, time.monotonic() - began)
            if progress.step % loop.checkpoint_every == 0:
                save()
            began = time.monotonic()
            reserve = longest_step + longest_save
            if not last and agreed(run.deadline is not None and began + reserve > run.deadline):
                if main:
                    notice(f"out of time after step {progress.step} of {loop.steps}: --resume goes on from there")
                break
        save()
        if agreed(stop.requested):
            raise Interrupted(f"stopped by a signal after step {progress.step}: --resume goes on from there")
    if any(".cross_attn." in name for name in weights):  # what the encoder alone reads is no context
        model.config.trained_context_tokens = max(earlier_context, progress.context_tokens)
    added = whole_state(model)
    if main:
        record.plot(run.out)
        save_reader(model, run.out / READER, decoder=settings.model.decoder, added=added)
    # What holds the process group besides torch must let go of it first: as its last holder, DDP's reducer would wait
    # for gloo's threads with Python's lock held, and one of them may wait for that lock.
    del objective
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()


def learning_rate(step: int, loop: LoopSettings) -> float:
    """The rate of a step, from 0 on: a linear rise over `warmup` of all steps, then a cosine down to 0."""
    rise = max(1, round(loop.warmup * loop.steps))
    if step < rise:
        return loop.learning_rate * (step + 1) / rise
    return loop.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, loop.steps - rise)))


def _open(
    run: Run,
    settings: RecipeSettings,
    fingerprint: Mapping[str, str],
    weights: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    main: bool,
) -> Progress:
    """Begin in the out folder, or go on from the last checkpoint in it."""
    if not run.resume and checkpoint.any_in(run.out):
        raise ConfigError(f"{run.out} holds a run: --resume goes on with it, another --out starts anew")
    progress = checkpoint.restore(run.out, settings, fingerprint, weights, optimizer)
    if main:
        text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
        (run.out / "settings.yaml").write_text(text, encoding="utf-8")
    return progress


@contextmanager
def _naming_the_step(step: int) -> Iterator[None]:
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"step {step}: {error}") from None
    except (MemoryError, RuntimeError) as error:  # torch has a class of its own for GPUs alone
        allocation = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not allocation:
            raise
        advice = "use a smaller loop.micro_batch, or loop.activation_checkpointing=true"
        raise RagxError(f"step {step}: out of memory; {advice}") from None
