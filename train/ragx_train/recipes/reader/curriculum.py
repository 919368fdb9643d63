"""The whole curriculum as one run: from a decoder to a reader of text and questions.

First the decoder answers questions in its own words, and asks its own about the passages of an index. Then each stage
mixes three streams: text to reconstruct, text to continue, and questions. No stage drops the text. A stage is a run of
its own in `stages/`, which starts from the reader of the stage before.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from ragx.cepe.added_weights import quantize_reader
from ragx.errors import ConfigError
from ragx.util.files import writer_lock
from ragx.util.settings import Settings, load_settings
from ragx.util.terminal import notice
from ragx_train.engine import log as record
from ragx_train.engine.loop import Run, train
from ragx_train.engine.losses import next_token_loss
from ragx_train.engine.model import READER, reader_to_train
from ragx_train.engine.step import seconds_a_step
from ragx_train.errors import OutputError
from ragx_train.recipes.qa import answer_loss
from ragx_train.recipes.reader.card import write_card
from ragx_train.recipes.reader.files import check_files, find_files
from ragx_train.recipes.reader.layers import choose_model
from ragx_train.recipes.reader.mixture import streams
from ragx_train.recipes.reader.options import ReaderData, ReaderSettings, Stage, StageSettings
from ragx_train.recipes.reader.writing import WRITING, seconds_written, write_own
from ragx_train.settings import LoopSettings, ModelSettings

PROBE = 4
"""Steps that are run to measure a step, the first of them untimed."""
RESERVE = 0.1
"""Share of a stage's time for checkpoints and slower steps."""
SLACK = 2.0
"""How much of its time a stage may use if steps take longer than measured, so that its learning rate reaches 0."""
CHECKPOINT_SECONDS = 60, 300
"""Least and most between two checkpoints, if time limits a stage: a third of the stage."""
VALIDATIONS, VALIDATION_SHARE, VALIDATION_SECONDS = 8, 0.1, 15
"""Of a stage that time limits: the most validations, the most of its time that they take (one is always done), and the
least seconds between two, because a better reader is also saved."""
FORWARD = 1 / 3
"""Time of an example in validation, as a share of its time in a step, which also computes gradients."""


def run(settings: ReaderSettings, run: Run) -> None:
    """Train a reader through all stages, and write it in int8 with a model card."""
    if not run.resume and (run.out / "settings.yaml").exists():
        raise ConfigError(f"{run.out} has a run: continue it with --resume, or give another --out")
    check_files(settings.data)
    with writer_lock(run.out, OutputError):
        data = find_files(settings.data, run.out)
        model = choose_model(settings.model, data, settings.loop.seed)
        settings = settings.model_copy(update={"model": model, "data": data})
        _write_yaml(run.out / "settings.yaml", settings)
        data, start, budget = settings.data, settings.model.init_from, _Budget(settings, run)
        for stage in settings.stages:
            folder = _folder(run.out, settings, stage)
            if stage.mix.answers and data is settings.data:
                data = write_own(settings, run, budget.seconds(WRITING))
            if not (folder / READER / "config.json").exists():
                _train(_stage_settings(settings, data, stage, start), folder, budget, run)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            start = str(folder)
        last = _folder(run.out, settings, settings.stages[-1])
        quantize_reader(last / READER, run.out / READER, settings.prompted_gain, settings.cross_attend, settings.within)
        write_card(run.out, settings, data, [_folder(run.out, settings, stage) for stage in settings.stages])
        notice(f"the reader is {run.out / READER}: ragx ask QUESTION --model {run.out / READER}")


def parts(settings: ReaderSettings) -> dict[str, float]:
    """What a run consists of, in order, with the relative shares of its time."""
    of_stages = sum(stage.share for stage in settings.stages)
    shares: dict[str, float] = {}
    for stage in settings.stages:
        if stage.mix.answers and WRITING not in shares:
            shares[WRITING] = of_stages * settings.data.write / (1 - settings.data.write)
        shares[stage.name] = stage.share
    return shares


class _Budget:
    """Divides the time that is left when a part begins among it and the parts after it."""

    def __init__(self, settings: ReaderSettings, run: Run) -> None:
        self.limit, self.parts, self.clock = settings.time_limit, parts(settings), run.clock
        earlier = sum(_spent(_folder(run.out, settings, stage)) for stage in settings.stages) + seconds_written(run.out)
        self.began = run.clock() - earlier

    def seconds(self, part: str) -> float | None:
        """The time of a part that begins now; None: not limited."""
        if self.limit is None:
            return None
        later = list(self.parts.values())[list(self.parts).index(part) :]
        return max(1.0, (self._end() - self.clock()) * later[0] / sum(later))

    def deadline(self, part: str) -> float | None:
        """When a part that begins now has to end, by the clock; half of the later parts' time is not for it."""
        if (seconds := self.seconds(part)) is None:
            return None
        left = self._end() - self.clock()
        return self.clock() + min(SLACK * seconds, (left + seconds) / 2)

    def _end(self) -> float:
        return self.began + (self.limit or 0.0)


def _train(settings: StageSettings, folder: Path, budget: _Budget, run: Run) -> None:
    """Train one stage; its number of steps is determined when it begins."""
    deadline, seconds = budget.deadline(settings.stage.name), budget.seconds(settings.stage.name)
    resumed = (folder / "settings.yaml").exists()
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    given = None
    loss = answer_loss(settings.attention) if settings.attention and settings.stage.mix.answers else next_token_loss
    if resumed:
        settings = load_settings(StageSettings, folder / "settings.yaml")
    elif seconds is not None:
        probe = settings.model_copy(update={"loop": settings.loop.model_copy(update={"steps": PROBE})})
        given = streams(probe, tokenizer)
        one = seconds_a_step(model, loss, given.example, probe.loop, run.clock)
        validated = settings.loop.validation_examples * len(given.validation) / settings.loop.batch_size
        loop = plan(settings.loop, one, seconds, validation=FORWARD * validated * one)
        settings = settings.model_copy(update={"loop": loop})
        notice(f"stage {settings.stage.name}: {settings.loop.steps} steps of {one:.2f} s")
    if given is None or settings.stage.curriculum:  # which depends on the number of steps
        given = streams(settings, tokenizer)
    train(
        settings,
        Run(folder, resumed, deadline, run.clock),
        model,
        given.example,
        given.validation,
        given.fingerprint,
        loss,
    )


def plan(loop: LoopSettings, seconds: float, budget: float, *, validation: float) -> LoopSettings:
    """The loop with as many steps as fit into `budget`, if one takes `seconds` and each validation `validation`."""
    validations = min(VALIDATIONS, max(1, int(VALIDATION_SHARE * budget / validation)))
    steps = max(1, int((budget * (1 - RESERVE) - validations * validation) / seconds))
    least, most = CHECKPOINT_SECONDS
    return loop.model_copy(
        update={
            "steps": steps,
            "validate_every": max(1, steps // validations, int(VALIDATION_SECONDS / seconds)),
            "checkpoint_every": max(1, int(min(most, max(least, budget / 3)) / seconds)),
        }
    )


def _stage_settings(settings: ReaderSettings, data: ReaderData, stage: Stage, start: str | None) -> StageSettings:
    share = stage.share / sum(each.share for each in settings.stages)
    loop = settings.loop.model_copy(
        update={
            "steps": max(1, round(settings.loop.steps * share)),
            "learning_rate": stage.learning_rate or settings.loop.learning_rate,
        }
    )
    chosen = settings.model
    return StageSettings(
        model=ModelSettings(
            decoder=chosen.decoder,
            init_from=start,
            encoder_layers=chosen.encoder_layers,
            cross_attention_layers=chosen.cross_attention_layers,
            output_gain=chosen.output_gain,
            frozen_encoder_layers=chosen.frozen_encoder_layers,
        ),
        loop=loop,
        data=data,
        stage=stage,
        masking=settings.masking,
        attention=settings.attention,
        cross_attend=settings.cross_attend,
    )


def _folder(out: Path, settings: ReaderSettings, stage: Stage) -> Path:
    return out / "stages" / f"{1 + settings.stages.index(stage)}-{stage.name}"


def _spent(folder: Path) -> float:
    """Seconds of training so far."""
    seconds = [each["seconds"] for each in record.read(folder) if "seconds" in each] if folder.exists() else []
    return float(max(seconds, default=0.0))


def _write_yaml(path: Path, settings: Settings) -> None:
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
