"""What the decoder writes is kept batch by batch, and questions about an index are checked against their passages."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest
import typer
from ragx_train.cli import load_recipe
from ragx_train.data.written import Row, journal_seconds, write_journalled
from ragx_train.engine.loop import Run
from ragx_train.errors import Interrupted
from ragx_train.recipes.reader import ReaderSettings
from ragx_train.recipes.reader.files import documents
from ragx_train.recipes.reader.writing import write_own
from typer.testing import CliRunner

from ragx.index import Index
from tests.helpers import small_indexes
from tests.helpers.tiny import save_reciting_decoder
from tests.helpers.tiny_runs import CONFIGS

NUMBERS = list(range(10))


def squares(batch: Sequence[int]) -> list[Row]:
    """A row for each even number."""
    return [{"square": number * number} for number in batch if number % 2 == 0]


def written(out: Path) -> list[int]:
    return [json.loads(line)["square"] for line in out.read_text().splitlines()]


def test_an_interrupted_file_is_continued_after_its_last_batch(tmp_path: Path) -> None:
    out, batches = tmp_path / "rows.jsonl", []

    def write(batch: Sequence[int]) -> list[Row]:
        batches.append(list(batch))
        if len(batches) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return squares(batch)

    with pytest.raises(Interrupted, match="6 of 10"):
        write_journalled(out, lambda: NUMBERS, write, seconds=None, batch=3)
    assert not out.exists()
    with out.with_suffix(".journal").open("a") as journal:
        journal.write('{"done": 9, "ro')  # cut off by a crash
    write_journalled(out, lambda: NUMBERS, write, seconds=None, batch=3)
    assert batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert written(out) == [0, 4, 16, 36, 64]
    write_journalled(out, lambda: NUMBERS, write, seconds=None, batch=3)
    assert len(batches) == 4, "it is complete"


def test_time_limits_what_is_written(tmp_path: Path) -> None:
    ticks = count()
    out = tmp_path / "rows.jsonl"
    write_journalled(out, lambda: NUMBERS, squares, seconds=4, batch=2, clock=lambda: float(next(ticks)))
    assert written(out) == [0, 4]
    assert journal_seconds(out) == 4
    assert journal_seconds(tmp_path / "none.jsonl") == 0


def settings(decoder: Path, index: Path, *overrides: str) -> ReaderSettings:
    """The tiny settings without files: texts and questions come from the index."""
    given = [f"model.decoder={decoder}", f"data.index={index}", "data.texts=null", "data.questions=null", *overrides]
    loaded = load_recipe("reader", CONFIGS / "reader" / "tiny.yaml", given)
    assert isinstance(loaded, ReaderSettings)
    return loaded


@pytest.fixture
def index(tmp_path: Path) -> Path:
    texts = [f"Fresh snow reflects most of the light number {number}." for number in range(60)]
    small_indexes.build(tmp_path / "index", [*texts, *("Dark soil absorbs the sun." for _ in range(5))])
    return tmp_path / "index"


def test_questions_about_an_index_are_kept_if_the_passage_supports_their_answer(
    index: Path, tiny_decoder: Path, tmp_path: Path
) -> None:
    save_reciting_decoder(tiny_decoder, tmp_path / "decoder", " snow? light", ends=True)
    chosen = settings(tmp_path / "decoder", index)
    data = write_own(chosen, Run(tmp_path / "out"), seconds=None)
    rows = [json.loads(line) for line in (tmp_path / "out" / "questions" / "index.jsonl").read_text().splitlines()]
    assert len(rows) == 60, "none about soil, which says nothing of light"
    assert {row["question"] for row in rows} == {"snow?"}
    assert {row["answers"][0] for row in rows} == {"snow? light"}
    assert all("reflects" in row["context"] for row in rows)
    assert data.questions is not None
    assert [Path(file.path).name for file in data.questions.files] == ["index.jsonl"]


def test_a_reader_is_fitted_to_an_index_without_any_file(
    index: Path, tiny_decoder: Path, tmp_path: Path, app: typer.Typer
) -> None:
    save_reciting_decoder(tiny_decoder, tmp_path / "decoder", " snow? light", ends=True)
    given = ["--decoder", str(tmp_path / "decoder"), "--index", str(index), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["train", "reader", "--config", "tiny", *given, "--loop.steps=4"])
    assert result.exit_code == 0, result.output
    card = (tmp_path / "out" / "reader" / "README.md").read_text()
    assert "documents.jsonl" in card
    assert "index.jsonl, 60 questions" in card
    assert len(list(documents(Index.open(index)))) == 65
