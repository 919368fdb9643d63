"""A reranker: an embedder's transformer learns to order what hybrid search found, by sentence-transformers' trainer.

This recipe is not from the paper. A cross-encoder reads a question and a passage together. It is trained to find the
passage that answers the question among those that hybrid search ranks high, which is what it does in use.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import yaml
from datasets import Dataset
from pydantic import Field, model_validator
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from ragx.errors import ConfigError
from ragx.models import fingerprint, resolve
from ragx.util.files import durable_file, writer_lock
from ragx.util.settings import Settings
from ragx.util.terminal import is_quiet, notice, quiet_transformers
from ragx_train.data.questions import questions_fingerprint
from ragx_train.data.ranking import Ranking, RankingSettings, load_ranking
from ragx_train.engine import log as record
from ragx_train.engine.checkpoint import FOLDER as CHECKPOINTS
from ragx_train.engine.checkpoint import compare
from ragx_train.engine.cross_encoder import AnswersFound, ListwiseLoss, fresh_cross_encoder
from ragx_train.engine.loop import Run
from ragx_train.errors import Interrupted, OutputError
from ragx_train.settings import LoopSettings
from ragx_train.signals import Stop, stop_on_signals

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

MODEL = "model"
"""Folder of the trained cross-encoder in the output folder."""
LOGGED = 10
"""Steps between two lines of the log."""


class RerankerModelSettings(Settings):
    """What is trained."""

    base: str = "all-minilm-l6-v2"
    """Embedder whose transformer it starts from; its embedding tables are frozen."""
    max_tokens: int = Field(default=192, ge=8)
    """Longer pairs of a question and a passage are truncated."""


class RerankerSettings(Settings):
    """`ragx train reranker`."""

    model: RerankerModelSettings = RerankerModelSettings()
    data: RankingSettings
    loop: LoopSettings

    @model_validator(mode="after")
    def _one_device(self) -> RerankerSettings:
        if self.loop.shard:
            raise ValueError("loop.shard is for readers")
        if self.loop.batch_size % self.loop.micro_batch:
            raise ValueError("loop.batch_size must be a multiple of loop.micro_batch")
        return self


def run(settings: RerankerSettings, run: Run) -> None:
    """Train a cross-encoder on groups of a question, a passage that answers it and others that do not.

    Writes checkpoints, the log and the model to `run.out`.

    Raises:
        ConfigError: `run.out` has a run that is not being resumed, or was made with other settings, data or models.
        CorpusError: the questions cannot be read, or there is none to train on.
        OutputError: another run is writing to `run.out`, or it cannot be written.
        ModelError: a model is missing, or `settings.model.base` has no transformer.
        Interrupted: SIGINT or SIGTERM was received; a checkpoint has been saved.
    """
    loop = settings.loop
    with writer_lock(run.out, OutputError):
        last = _open(settings, run)
        torch.manual_seed(loop.seed)
        model = fresh_cross_encoder(resolve(settings.model.base, "embedder"), settings.model.max_tokens)
        ranking = load_ranking(settings.data, run.out / "data", loop.seed)
        notice(f"{len(ranking.training):,} questions to train on, {len(ranking.held_out):,} for validation")
        validation = AnswersFound(ranking, loop.validation_examples, bf16=loop.precision == "bf16")
        done = int(last.rpartition("-")[2]) if last else 0
        bar = tqdm(total=loop.steps, initial=done, unit="step")
        with stop_on_signals() as stop, record.logging(run.out, done) as log, bar, quiet_transformers():
            trainer = CrossEncoderTrainer(
                model,
                _arguments(settings, run.out, validate=bool(ranking.held_out)),
                groups(ranking, loop),
                loss=ListwiseLoss(model),
                evaluator=validation,
                callbacks=[_Watch(run, stop, log, bar)],
            )
            trainer.remove_callback(PrinterCallback)  # it would print to stdout
            trainer.train(resume_from_checkpoint=last)
        step = trainer.state.global_step
        if stop.requested:
            raise Interrupted(f"stopped by a signal after step {step}: continue with --resume")
        if step < loop.steps:
            notice(f"time limit reached after step {step} of {loop.steps}: continue with --resume")
        model.save_pretrained(str(run.out / MODEL))


def groups(ranking: Ranking, loop: LoopSettings) -> Dataset:
    """The groups of all steps, as columns for the trainer."""
    chosen = [ranking.group(position, loop.seed) for position in range(loop.steps * loop.batch_size)]
    return Dataset.from_dict(
        {"question": [group.question for group in chosen], "passages": [group.passages for group in chosen]}
    )


class _Watch(TrainerCallback):
    """Shows progress, writes the log, and stops in time with a checkpoint."""

    def __init__(self, run: Run, stop: Stop, log: record.Log, bar: tqdm[NoReturn]) -> None:
        self._run, self._stop, self._log, self._bar = run, stop, log, bar
        self._began = self._longest = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = self._run.clock()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._bar.update(state.global_step - self._bar.n)
        now = self._run.clock()
        self._longest = max(self._longest, now - self._began)
        late = self._run.deadline is not None and now + 2 * self._longest > self._run.deadline
        if self._stop.requested or late:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        values = {name.replace("eval_", "validation_"): value for name, value in given["logs"].items()}
        self._log.write(state.global_step, **values)
        if "validation_answer_in_3" in values and not is_quiet():
            shown = ", ".join(f"{name.removeprefix('validation_')} {value:.1f}" for name, value in values.items())
            self._bar.write(f"step {state.global_step}: {shown}", file=sys.stderr)


def _arguments(settings: RerankerSettings, out: Path, *, validate: bool) -> CrossEncoderTrainingArguments:
    loop = settings.loop
    return CrossEncoderTrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        max_steps=loop.steps,
        per_device_train_batch_size=loop.micro_batch,
        gradient_accumulation_steps=loop.batch_size // loop.micro_batch,
        learning_rate=loop.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=loop.warmup,  # a share
        adam_beta1=loop.betas[0],
        adam_beta2=loop.betas[1],
        adam_epsilon=loop.epsilon,
        weight_decay=loop.weight_decay,
        max_grad_norm=loop.max_grad_norm,
        bf16=loop.precision == "bf16",
        activation_checkpointing=loop.activation_checkpointing,
        dataloader_num_workers=loop.workers,
        eval_strategy="steps" if validate else "no",
        eval_steps=loop.validate_every,
        save_steps=loop.checkpoint_every,
        save_total_limit=2,
        logging_steps=LOGGED,
        use_cpu=not torch.cuda.is_available(),
        seed=loop.seed,
        report_to="none",
        disable_tqdm=True,
    )


def _open(settings: RerankerSettings, run: Run) -> str | None:
    """Start a run in the out folder, or return the checkpoint to resume from."""
    folder, inputs = run.out / CHECKPOINTS, run.out / "inputs.json"
    last: str | None = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if last and not run.resume:
        raise ConfigError(f"{run.out} has a run: continue it with --resume, or give another --out")
    digests = {
        "model.base": fingerprint(resolve(settings.model.base, "embedder")),
        "data.files": questions_fingerprint(settings.data.paths()),
    }
    if last:
        compare(settings, digests, json.loads(inputs.read_text(encoding="utf-8")), folder)
    values = settings.model_dump(mode="json")
    with durable_file(inputs, OutputError) as file:
        file.write(json.dumps({"settings": values, "fingerprint": digests}, indent=1).encode())
    (run.out / "settings.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return last
