"""The loop: what it sees in which step, how it ends, and how it goes on."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from ragx_train.data.example import Batch, Example, following
from ragx_train.engine import checkpoint
from ragx_train.engine import log as record
from ragx_train.engine.checkpoint import CheckpointError
from ragx_train.engine.loop import Run, learning_rate, train
from ragx_train.engine.losses import Losses, next_token_loss
from ragx_train.engine.model import reader_to_train
from ragx_train.engine.step import Loss, NotFiniteError
from ragx_train.settings import LoopSettings, RecipeSettings
from ragx_train.signals import Interrupted
from safetensors.torch import load_file

from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError, IndexFolderError, RagxError
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
    """Runs on one decoder, with what was asked for in each."""

    decoder: Path
    out: Path
    seen: list[int] = field(default_factory=list)

    def run(
        self,
        *,
        resume: bool = False,
        deadline: float | None = None,
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
            self.seen.append(position)
            return made(position)

        model, _ = reader_to_train(settings.model, settings.loop)
        validation = [made(1000 + n) for n in range(4)]
        train(settings, Run(self.out, resume, deadline), model, example, validation, {}, loss)

    def losses(self) -> list[float]:
        return [each["loss"] for each in record.read(self.out) if "loss" in each]

    def steps(self) -> list[str]:
        return sorted(folder.name for folder in (self.out / "checkpoints").iterdir())


def made(position: int) -> Example:
    """Copying, of sequences of several lengths."""
    ids = [(7 * position + n * n) % 300 for n in range(8 + position % 3)]
    return Example(ids, following(ids), [ids[:5], ids[5:]], f"sequence {position}")


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


def test_a_step_sees_its_own_positions_once_and_the_last_two_checkpoints_stay(whole: Session) -> None:
    assert whole.seen == list(range(24))
    assert whole.steps() == ["step-00000004", "step-00000006"]
    assert [each["step"] for each in record.read(whole.out) if "validation_loss" in each] == [3, 6]


def test_a_resumed_run_is_the_uninterrupted_one(whole: Session, session: Session) -> None:
    def stop(position: int) -> None:
        if position == 4 * 4:  # while step 5 is being prepared
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped by a signal after step 4"):
        session.run(before=stop)
    session.seen.clear()
    session.run(resume=True)
    assert session.seen == list(range(16, 24))
    assert_same_end(session, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_first(number: signal.Signals, session: Session) -> None:
    with pytest.raises(Interrupted) as stopped:
        session.run(before=lambda position: os.kill(os.getpid(), number) if position == 13 else None)
    assert stopped.value.exit_code == 130
    assert session.steps() == ["step-00000002", "step-00000003"]
    assert not (session.out / "reader").exists()


def test_neither_micro_batches_nor_workers_change_what_is_learnt(whole: Session, session: Session) -> None:
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
    assert "out of time after step 1 of 6" in capsys.readouterr().err
    session.run(resume=True)
    assert session.steps()[-1] == "step-00000006"


@dataclass
class Clock:
    """Time that goes by in those parts of a run alone that tell it so."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def add(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ragx_train.engine.loop.time", clock)
    return clock


def test_seconds_are_those_of_the_data_too_but_not_of_validation(session: Session, clock: Clock) -> None:
    def loss(model: CepeModel, batch: Batch) -> Losses:
        clock.add(1 if model.training else 10)
        return next_token_loss(model, batch)

    session.run(before=lambda _: clock.add(2), loss=loss, steps=3, validate_every=1)
    log = [each for each in record.read(session.out) if "loss" in each]
    assert [each["seconds"] for each in log] == [10, 20, 30], "four examples and two batches a step"
    assert log[0]["tokens_per_second"] == log[0]["tokens"] / 10


def test_a_time_limit_leaves_room_for_the_longest_step_with_its_validation_and_a_save(
    session: Session, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(model: CepeModel, batch: Batch) -> Losses:
        clock.add(0 if model.training else 10)
        return next_token_loss(model, batch)

    def save(*arguments: Any, **options: Any) -> None:
        clock.add(100)
        kept(*arguments, **options)

    kept = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", save)
    # step 5 ends at 260 seconds, and another one with validation and a save could take 24 + 100
    session.run(before=lambda _: clock.add(1), loss=loss, steps=20, validate_every=2, checkpoint_every=2, deadline=383)
    assert session.steps()[-1] == "step-00000005"
    assert clock.now == 360


def test_what_a_killed_run_logged_beyond_its_checkpoint_is_dropped(whole: Session) -> None:
    losses = whole.losses()
    folder = whole.out / "checkpoints" / "step-00000006"
    folder.rename(folder.with_name(f"{folder.name}.partial"))  # as if killed while writing it
    with (whole.out / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')
    whole.run(resume=True)
    assert whole.losses() == pytest.approx(losses, rel=1e-5)
    assert whole.steps() == ["step-00000004", "step-00000006"]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_no_number_stops_and_names_step_and_batch(value: str, session: Session) -> None:
    def spoiled(model: CepeModel, batch: Batch) -> Losses:
        loss = next_token_loss(model, batch)["loss"]
        return {"loss": loss * (float(value) if "sequence 10" in batch.origins else 1)}

    with pytest.raises(NotFiniteError, match=rf"step 3: the loss is {value} in the batch of .*sequence 10"):
        session.run(loss=spoiled)
    assert session.steps() == ["step-00000002"]
    assert len(session.losses()) == 2


def test_a_gradient_that_is_no_number_stops_before_it_does_harm(session: Session) -> None:
    def steep(model: CepeModel, batch: Batch) -> Losses:
        loss = next_token_loss(model, batch)["loss"]
        root = (0 * loss).sqrt()  # which has no slope at 0
        return {"loss": loss + root if "sequence 10" in batch.origins else loss}

    with pytest.raises(NotFiniteError, match=r"step 3: the gradient is nan in the batch of .*sequence 10"):
        session.run(loss=steep)
    assert session.steps() == ["step-00000002"]


def test_too_little_memory_is_one_line_that_says_what_helps(session: Session) -> None:
    def huge(model: CepeModel, batch: Batch) -> Losses:
        return {"loss": torch.empty(2**60)} if "sequence 10" in batch.origins else next_token_loss(model, batch)

    with pytest.raises(RagxError, match=r"step 3: out of memory; use a smaller loop\.micro_batch"):
        session.run(loss=huge)


def test_passages_may_all_be_masked(session: Session) -> None:
    def alone(model: CepeModel, batch: Batch) -> Losses:
        return next_token_loss(model, replace(batch, passage_mask=torch.zeros_like(batch.passage_mask)))

    session.run(loss=alone, steps=2)
    assert len(session.losses()) == 2


def test_a_folder_that_holds_a_run_is_not_begun_anew(whole: Session) -> None:
    with pytest.raises(ConfigError, match="holds a run: --resume"):
        whole.run()


def test_a_folder_has_one_run_at_a_time(session: Session) -> None:
    def begin_another(position: int) -> None:
        if position == 5:
            with pytest.raises(IndexFolderError, match=r"another process \(pid .*\) is writing to .*out"):
                Session(session.decoder, session.out).run()

    session.run(before=begin_another, steps=2)
    assert len(session.losses()) == 2
    with writer_lock(session.out):
        pass  # it has let go


def test_settings_that_would_change_the_run_are_refused(whole: Session) -> None:
    with pytest.raises(ConfigError, match=r"loop\.learning_rate is 0\.5, but .*step-00000006 was made with 0\.01"):
        whole.run(resume=True, learning_rate=0.5)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(whole: Session, capsys: pytest.CaptureFixture[str]) -> None:
    losses = whole.losses()
    (whole.out / "checkpoints" / "step-00000006" / "optimizer.safetensors").write_bytes(b"zero")
    whole.seen.clear()
    whole.run(resume=True)
    assert whole.seen == list(range(16, 24))
    assert whole.losses() == pytest.approx(losses, rel=1e-5)
    err = capsys.readouterr().err
    assert "step-00000006 is damaged (optimizer.safetensors is not as it was written)" in err
    assert err.count(" is damaged ") == 1


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_checkpoint(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with files_of_at_most(40_000), pytest.raises(RagxError, match=r"cannot write .*step-00000002: .*; make room, and"):
        session.run()
    assert session.steps() == []
    monkeypatch.setattr(checkpoint, "save", lambda *_, **__: None)
    with files_of_at_most(40_000), pytest.raises(RagxError, match=r"cannot write the reader .*out/reader: "):
        session.run(steps=1)
    assert list((session.out / "reader").iterdir()) == []


def test_where_all_checkpoints_are_damaged_it_is_one_line(whole: Session) -> None:
    for folder in (whole.out / "checkpoints").iterdir():
        (folder / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole"):
        whole.run(resume=True)


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    loop = LoopSettings(steps=100, batch_size=1, micro_batch=1, learning_rate=2.0, warmup=0.1)
    rates = [learning_rate(step, loop) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))
