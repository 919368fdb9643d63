"""`ragx train reader`: one run from a decoder to a reader of text and questions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from ragx_train.cli import load_recipe
from ragx_train.engine import log as record
from ragx_train.engine.loop import Run
from ragx_train.errors import Interrupted
from ragx_train.recipes.reader import ReaderSettings, run
from ragx_train.recipes.reader.curriculum import parts, plan
from ragx_train.recipes.reader.writing import WRITING
from ragx_train.settings import LoopSettings
from safetensors.torch import load_file

from ragx import cepe
from ragx.errors import ConfigError
from tests.helpers.tiny import save_decoder
from tests.helpers.tiny_runs import CONFIGS, write_documents, write_questions

STREAMS = ("reconstruction", "continuation", "answers")


def tiny(decoder: Path, folder: Path, *overrides: str) -> ReaderSettings:
    write_documents(folder)
    write_questions(folder)
    given = [f"model.decoder={decoder}", f"data.texts.folder={folder}", f"data.questions.folder={folder}", *overrides]
    settings = load_recipe("reader", CONFIGS / "reader" / "tiny.yaml", given)
    assert isinstance(settings, ReaderSettings)
    return settings


def test_a_reader_around_another_family(decoder: Path, tmp_path: Path) -> None:
    """Qwen3 normalises queries and keys, which a reader's cross-attention does not."""
    folder = Path(shutil.copytree(decoder, tmp_path / "qwen3"))
    vocabulary = json.loads((decoder / "config.json").read_text())["vocab_size"]
    save_decoder(folder, "qwen3", vocab_size=vocabulary, max_position_embeddings=512)
    run(tiny(folder, tmp_path, "loop.steps=4"), Run(tmp_path / "out"))
    reader = cepe.load(str(tmp_path / "out" / "reader"), dtype="float32", device="cpu")
    assert reader.config.model_type == "qwen3"
    assert len(reader.config.cross_attention_layers) == 2


def test_a_finished_reader_is_where_another_run_starts(decoder: Path, tmp_path: Path) -> None:
    run(tiny(decoder, tmp_path, "loop.steps=2"), Run(tmp_path / "first"))
    start = tmp_path / "first" / "reader"
    run(tiny(decoder, tmp_path, "loop.steps=2", f"model.init_from={start}"), Run(tmp_path / "out"))
    settings = yaml.safe_load((tmp_path / "out" / "stages" / "1-text" / "settings.yaml").read_text())
    assert settings["model"]["init_from"] == str(start)


def test_a_run_is_not_overwritten(decoder: Path, tmp_path: Path) -> None:
    run(tiny(decoder, tmp_path, "loop.steps=2"), Run(tmp_path / "out"))
    with pytest.raises(ConfigError, match="--resume"):
        run(tiny(decoder, tmp_path), Run(tmp_path / "out"))


def test_a_run_whose_data_are_missing_leaves_nothing_behind(decoder: Path, tmp_path: Path) -> None:
    for setting in ("texts.sources=[absent.jsonl]", "questions.files=[{path: absent.jsonl}]"):
        with pytest.raises(ConfigError, match=r"absent\.jsonl does not exist"):
            run(tiny(decoder, tmp_path, f"data.{setting}"), Run(tmp_path / "out"))
        assert not (tmp_path / "out").exists()


def logs(out: Path) -> list[dict[str, Any]]:
    return [each for stage in sorted((out / "stages").iterdir()) for each in record.read(stage)]


def test_one_run_ends_with_an_int8_reader_and_its_card(decoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(tiny(decoder, tmp_path, "prompted_gain=0.5"), Run(out))
    reader = cepe.load(str(out / "reader"), dtype="float32", device="cpu")
    assert reader.is_trained
    assert (reader.prompted_gain, reader.cross_attend) == (0.5, "question")
    assert reader.config.trained_context_tokens >= 32
    assert {str(each.dtype) for each in load_file(out / "reader" / "model.safetensors").values()} >= {"torch.int8"}
    text, questions = (record.read(out / "stages" / name) for name in ("1-text", "2-questions"))
    for log, streams in ((text, STREAMS[:2]), (questions, STREAMS)):
        first, *_, last = [each for each in log if "validation_loss" in each]
        assert {f"validation_loss_{name}" for name in streams} <= first.keys()
        assert last["validation_loss"] < first["validation_loss"]
    card = (out / "reader" / "README.md").read_text()
    for part in ("| 1-text | 10 |", "documents.jsonl", "questions.jsonl", "learning_rate: 0.01", "(1-text.png)"):
        assert part in card
    assert not list(out.glob("stages/*/checkpoints"))


def test_a_run_interrupted_within_any_stage_ends_as_an_uninterrupted_one(decoder: Path, tmp_path: Path) -> None:
    settings = tiny(decoder, tmp_path)
    run(settings, Run(tmp_path / "whole"))
    out = tmp_path / "parts"
    for stage, step in (("1-text", 3), ("2-questions", 7)):
        with pytest.raises(Interrupted, match=f"after step {step - 1}:"):
            run(settings, _interrupting(out, stage, step))
    run(settings, Run(out, resume=True))
    ignored = {"seconds", "tokens_per_second"}
    for ours, theirs in zip(logs(out), logs(tmp_path / "whole"), strict=True):
        assert {key: value for key, value in ours.items() if key not in ignored} == pytest.approx(
            {key: value for key, value in theirs.items() if key not in ignored}, rel=1e-5
        )
    one, other = (load_file(each / "reader" / "model.safetensors") for each in (out, tmp_path / "whole"))
    assert all((one[name].float() - other[name].float()).abs().max() <= 1 for name in one)


def _interrupting(out: Path, stage: str, step: int) -> Run:
    """A run that receives SIGINT once in a step of a stage, by the clock that the loop reads in every step."""
    sent: list[int] = []

    def clock() -> float:
        log = out / "stages" / stage / "log.jsonl"
        steps = sum("gradient_norm" in each for each in record.read(log.parent)) if log.exists() else 0
        if steps == step - 1 and not sent:
            sent.append(step)
            print("KILL", stage, step, steps)
            os.kill(os.getpid(), signal.SIGINT)
        return time.monotonic()

    return Run(out, resume=out.exists(), clock=clock)


def test_no_stage_takes_all_the_time_if_steps_take_longer_than_measured(decoder: Path, tmp_path: Path) -> None:
    """By a clock that advances a second whenever it is read: rarely in the measurement, often in a step."""
    ticks = count()
    settings = tiny(decoder, tmp_path, "time_limit=240", "data.write=0")
    run(settings, Run(tmp_path / "out", clock=lambda: float(next(ticks))))
    for stage in ("1-text", "2-questions"):
        steps = [each for each in record.read(tmp_path / "out" / "stages" / stage) if "gradient_norm" in each]
        planned = yaml.safe_load((tmp_path / "out" / "stages" / stage / "settings.yaml").read_text())["loop"]["steps"]
        assert 10 < len(steps) < planned
    assert next(ticks) < 280


@pytest.mark.parametrize(
    ("seconds", "budget", "validation", "steps", "validate_every", "checkpoint_every"),
    [
        (1.0, 1000.0, 1.0, 892, 111, 300),
        (1.0, 1000.0, 50.0, 800, 400, 300),
        (40.0, 500.0, 60.0, 9, 9, 4),
        (200.0, 100.0, 100.0, 1, 1, 1),
        (0.5, 36.0, 0.25, 60, 30, 120),
    ],
)
def test_a_tenth_of_the_time_is_for_validation_and_a_tenth_in_reserve(
    seconds: float, budget: float, validation: float, steps: int, validate_every: int, checkpoint_every: int
) -> None:
    loop = LoopSettings(steps=1, batch_size=1, micro_batch=1, learning_rate=1)
    loop = plan(loop, seconds, budget, validation=validation)
    assert (loop.steps, loop.validate_every, loop.checkpoint_every) == (steps, validate_every, checkpoint_every)


def test_writing_comes_before_the_first_stage_with_answers(decoder: Path, tmp_path: Path) -> None:
    settings = tiny(decoder, tmp_path, "data.write=0.2")
    assert parts(settings) == pytest.approx({"text": 0.5, WRITING: 0.25, "questions": 0.5})
    assert list(parts(settings)) == ["text", WRITING, "questions"]
    only_text = tiny(decoder, tmp_path, "stages=[{name: text, share: 3, mix: {}}]")
    assert parts(only_text) == {"text": 3}
