"""The loop: which examples a step reads, how a run ends, and how it resumes."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from ragx_train.data.example import Batch, Example, next_tokens
from ragx_train.engine import log as record
from ragx_train.engine.loop import Run, learning_rate, train
from ragx_train.engine.losses import Losses, next_token_loss
from ragx_train.engine.model import reader_to_train
from ragx_train.engine.step import Loss
from ragx_train.errors import CheckpointError, Interrupted, NotFiniteError, OutputError
from ragx_train.settings import LoopSettings, RecipeSettings
from safetensors.torch import load_file

from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError, RagxError
from ragx.util.files import writer_lock

SETTINGS = {
    "model": {"encoder_layers": [0], "cross_attention_layers": [0, 1], "output_gain": 0.3},
    "loop": {
        "steps": 6,
        "batch_size": 4,
        "micro_batch": 2,
        "learning_rate": 1e-2,
        "precision": "fp32",
        "checkpoint_every": 2,
        "validate_every": 3,
    },
}


@dataclass
class Session:
    """Runs in one folder, and the positions that they read."""

    decoder: Path
    out: Path
    positions: list[int] = field(default_factory=list)

    def run(
        self,
        *,
        resume: bool = False,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        before: Callable[[int], None] = lambda position: None,
        loss: Loss = next_token_loss,
        **loop: object,
    ) -> None:
        settings = RecipeSettings.model_validate(
            {
                "model": {**SETTINGS["model"], "decoder": str(self.decoder)},
                "loop": {**SETTINGS["loop"], **loop},
            }
        )

        def example(position: int) -> Example:
            before(position)
            self.positions.append(position)
            return sequence(position)

        model, _ = reader_to_train(settings.model, settings.loop)
        validation = [sequence(1000 + n) for n in range(4)]
        train(settings, Run(self.out, resume, deadline, clock), model, example, validation, {}, loss)

    def losses(self) -> list[float]:
        return [each["loss"] for each in record.read(self.out) if "loss" in each]

    def steps(self) -> list[str]:
        return sorted(folder.name for folder in (self.out / "checkpoints").glob("*"))


def sequence(position: int) -> Example:
    """A sequence to copy; lengths differ."""
    ids = [(7 * position + n * n) % 300 for n in range(8 + position % 3)]
    return Example(ids, next_tokens(ids), [ids[:5], ids[5:]], f"sequence {position}")


def weights(out: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step-{step:08d}" / "weights.safetensors")


@pytest.fixture
def session(decoder: Path, tmp_path: Path) -> Session:
    return Session(decoder, tmp_path / "out")


@pytest.fixture
def whole(decoder: Path, tmp_path: Path) -> Session:
    """An uninterrupted run."""
    session = Session(decoder, tmp_path / "whole")
    session.run()
    return session


def assert_same_end(one: Session, other: Session) -> None:
    assert one.losses() == pytest.approx(other.losses(), rel=1e-5)
    for name, weight in weights(one.out, 6).items():
        torch.testing.assert_close(weight, weights(other.out, 6)[name], rtol=1e-4, atol=1e-5)


def test_a_step_reads_its_own_positions_and_the_last_two_checkpoints_are_kept(whole: Session) -> None:
    assert whole.positions == list(range(24))
    assert whole.steps() == ["step-00000004", "step-00000006"]
    assert [each["step"] for each in record.read(whole.out) if "validation_loss" in each] == [3, 6]


def test_a_resumed_run_ends_as_an_uninterrupted_one(whole: Session, session: Session) -> None:
    def stop(position: int) -> None:
        if position == 4 * 4:  # while step 5 is being prepared
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="after step 4"):
        session.run(before=stop)
    session.positions.clear()
    session.run(resume=True)
    assert session.positions == list(range(16, 24))
    assert_same_end(session, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint(number: signal.Signals, session: Session) -> None:
    with pytest.raises(Interrupted) as stopped:
        session.run(before=lambda position: os.kill(os.getpid(), number) if position == 13 else None)
    assert stopped.value.exit_code == 130
    assert session.steps() == ["step-00000002", "step-00000003"]
    assert not (session.out / "reader").exists()


def test_micro_batches_and_workers_do_not_change_the_result(whole: Session, session: Session) -> None:
    session.run(micro_batch=3, workers=2)
    assert_same_end(session, whole)


def test_a_resumed_run_may_have_other_micro_batches(whole: Session, session: Session) -> None:
    with pytest.raises(Interrupted):
        session.run(before=lambda position: os.kill(os.getpid(), signal.SIGINT) if position == 9 else None)
    session.run(resume=True, micro_batch=4)
    assert_same_end(session, whole)


def test_a_time_limit_ends_with_a_checkpoint_and_a_reader(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    session.run(deadline=time.monotonic())
    assert session.steps() == ["step-00000001"]
    assert (session.out / "reader" / "config.json").exists()
    assert "after step 1 of 6" in capsys.readouterr().err
    session.run(resume=True)
    assert session.steps()[-1] == "step-00000006"


@dataclass
class Clock:
    """Time that only passes when a part of the run adds it."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def add(self, seconds: float) -> None:
        self.now += seconds


def test_seconds_include_the_data_but_not_validation(session: Session) -> None:
    clock = Clock()

    def loss(model: CepeModel, batch: Batch) -> Losses:
        clock.add(1 if model.training else 10)
        return next_token_loss(model, batch)

    session.run(before=lambda _: clock.add(2), loss=loss, clock=clock, steps=3, validate_every=1)
    log = [each for each in record.read(session.out) if "loss" in each]
    assert [each["seconds"] for each in log] == [10, 20, 30], "four examples and two batches a step"
    assert log[0]["tokens_per_second"] == log[0]["tokens"] / 10


def test_a_time_limit_leaves_time_for_the_longest_step_with_validation_and_a_save(session: Session) -> None:
    clock = Clock()
    saved: set[str] = set()

    def loss(model: CepeModel, batch: Batch) -> Losses:
        clock.add(0 if model.training else 10)
        return next_token_loss(model, batch)

    def with_saves() -> float:  # each takes 100 seconds
        new = set(session.steps()) - saved
        saved.update(new)
        clock.add(100 * len(new))
        return clock()

    every_two = {"validate_every": 2, "checkpoint_every": 2}
    # step 5 ends at 260 seconds; another one with validation and a save could take 24 + 100
    session.run(before=lambda _: clock.add(1), loss=loss, steps=20, deadline=383, clock=with_saves, **every_two)
    assert session.steps()[-1] == "step-00000005"
    assert clock.now == 360


def test_log_lines_of_a_killed_run_after_its_checkpoint_are_removed(whole: Session) -> None:
    losses = whole.losses()
    folder = whole.out / "checkpoints" / "step-00000006"
    folder.rename(folder.with_name(f"{folder.name}.tmp"))  # as if killed while writing it
    with (whole.out / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')
    whole.run(resume=True)
    assert whole.losses() == pytest.approx(losses, rel=1e-5)
    assert whole.steps() == ["step-00000004", "step-00000006"]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_batch(value: str, session: Session) -> None:
    def spoiled(model: CepeModel, batch: Batch) -> Losses:
        loss = next_token_loss(model, batch)["loss"]
        return {"loss": loss * (float(value) if "sequence 10" in batch.origins else 1)}

    with pytest.raises(NotFiniteError, match=rf"step 3: .* {value} .*sequence 10"):
        session.run(loss=spoiled)
    assert session.steps() == ["step-00000002"]
    assert len(session.losses()) == 2


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_update(session: Session) -> None:
    def steep(model: CepeModel, batch: Batch) -> Losses:
        loss = next_token_loss(model, batch)["loss"]
        root = (0 * loss).sqrt()  # which has no slope at 0
        return {"loss": loss + root if "sequence 10" in batch.origins else loss}

    with pytest.raises(NotFiniteError, match=r"step 3: .*gradient .*sequence 10"):
        session.run(loss=steep)
    assert session.steps() == ["step-00000002"]


def test_too_little_memory_is_one_line_with_advice(session: Session) -> None:
    def huge(model: CepeModel, batch: Batch) -> Losses:
        return {"loss": torch.empty(2**60)} if "sequence 10" in batch.origins else next_token_loss(model, batch)

    with pytest.raises(RagxError, match=r"step 3: out of memory.*loop\.micro_batch"):
        session.run(loss=huge)


def test_all_passages_may_be_masked(session: Session) -> None:
    def alone(model: CepeModel, batch: Batch) -> Losses:
        return next_token_loss(model, replace(batch, passage_mask=torch.zeros_like(batch.passage_mask)))

    session.run(loss=alone, steps=2)
    assert len(session.losses()) == 2


def test_a_folder_with_a_run_is_not_overwritten(whole: Session) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        whole.run()


def test_a_folder_has_one_run_at_a_time(session: Session) -> None:
    def start_another(position: int) -> None:
        if position == 5:
            with pytest.raises(OutputError, match="another process"):
                Session(session.decoder, session.out).run()

    session.run(before=start_another, steps=2)
    assert len(session.losses()) == 2
    with writer_lock(session.out):
        pass  # the lock is released


def test_settings_that_would_change_the_run_are_refused(whole: Session) -> None:
    with pytest.raises(ConfigError, match=r"loop\.learning_rate is 0\.5"):
        whole.run(resume=True, learning_rate=0.5)


def test_the_checkpoint_before_a_damaged_one_is_used(whole: Session, capsys: pytest.CaptureFixture[str]) -> None:
    losses = whole.losses()
    (whole.out / "checkpoints" / "step-00000006" / "optimizer.safetensors").write_bytes(b"zero")
    whole.positions.clear()
    whole.run(resume=True)
    assert whole.positions == list(range(16, 24))
    assert whole.losses() == pytest.approx(losses, rel=1e-5)
    err = capsys.readouterr().err
    assert "step-00000006 is damaged (optimizer.safetensors" in err
    assert err.count(" is damaged ") == 1


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Makes larger files fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_checkpoint_or_reader(session: Session) -> None:
    with file_size_limit(40_000), pytest.raises(RagxError, match="--resume"):
        session.run()
    assert session.steps() == []
    session.run(steps=1)
    shutil.rmtree(session.out / "reader")
    with file_size_limit(40_000), pytest.raises(RagxError, match="cannot write the reader"):
        session.run(steps=1, resume=True)
    assert list((session.out / "reader").iterdir()) == []


def test_if_all_checkpoints_are_damaged_the_run_does_not_resume(whole: Session) -> None:
    for folder in (whole.out / "checkpoints").iterdir():
        (folder / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="every checkpoint"):
        whole.run(resume=True)


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    loop = LoopSettings(steps=100, batch_size=1, micro_batch=1, learning_rate=2.0, warmup=0.1)
    rates = [learning_rate(step, loop) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))
