"""`ragx index encode`: passages encoded before any question."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx.util.folders import cache_home
from tests.helpers.command import QUESTION, RunCommand
from tests.helpers.tiny import save_tiny_reader


@pytest.fixture
def trained_reader(tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader whose cross-attention adds something, with its own home for its encodings."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").symlink_to(cache_home() / "models")
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    return save_tiny_reader(tmp_path / "reader", tiny_decoder)


def test_passages_encoded_ahead_are_not_encoded_again(ragx: RunCommand, index: Path, trained_reader: Path) -> None:
    options = ("--index", index, "--model", trained_reader)
    first = ragx("index", "encode", *options)
    assert first.code == 0
    assert "4 passages encoded, 0 already on disk" in first.err
    assert "0 passages encoded, 4 already on disk" in ragx("index", "encode", *options).err
    assert "4 passages encoded" in ragx("index", "encode", *options, "--encodings", "int8").err
    answer = ragx("ask", QUESTION, *options, "--max-new-tokens", "3", "--attention-shares")
    assert answer.code == 0
    assert "untrained" not in answer.err
    assert "Attention:" in answer.out


def test_build_can_encode_too(ragx: RunCommand, notes: Path, trained_reader: Path, tmp_path: Path) -> None:
    done = ragx("index", "build", notes, "--index", tmp_path / "index", "--encode", "--model", trained_reader)
    assert done.code == 0
    assert "4 passages encoded, 0 already on disk" in done.err


def test_only_what_questions_find_is_encoded(
    ragx: RunCommand, index: Path, trained_reader: Path, tmp_path: Path
) -> None:
    questions = tmp_path / "asked.jsonl"
    questions.write_text(f'{{"question": "{QUESTION}"}}\n' * 2)
    options = ("--index", index, "--model", trained_reader, "--questions", questions)
    assert "1 passage encoded, 0 already on disk" in ragx("index", "encode", *options, "-k", "1").err
    assert "1 passage encoded, 1 already on disk" in ragx("index", "encode", *options, "-k", "2").err


def test_a_line_without_a_question_is_named(
    ragx: RunCommand, index: Path, trained_reader: Path, tmp_path: Path
) -> None:
    questions = tmp_path / "asked.jsonl"
    questions.write_text('{"question": "Why?"}\n{"text": "Why?"}\n')
    done = ragx("index", "encode", "--index", index, "--model", trained_reader, "--questions", questions)
    assert (done.code, done.out) == (2, "")
    assert f"{questions}:2 has no `question`" in done.err


def test_encodings_that_do_not_fit_are_reported(ragx: RunCommand, index: Path, trained_reader: Path) -> None:
    done = ragx("index", "encode", "--index", index, "--model", trained_reader, "--cache-size", "0.00003")
    assert done.code == 0
    assert "not all encodings fit on disk" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "DECODER"), "is an untrained reader"),
        (("--encodings", "int3"), "encodings: 'int3' is not one of"),
        (("--bits", "5"), "bits: '5' is not one of"),
        (("--index", "/nowhere"), "no index at /nowhere"),
        (("-k", "5"), "-k requires --questions"),
    ],
)
def test_a_mistake_is_one_line(
    ragx: RunCommand, index: Path, trained_reader: Path, tiny_decoder: Path, options: tuple[str, ...], message: str
) -> None:
    options = tuple(str(tiny_decoder) if option == "DECODER" else option for option in options)
    done = ragx("index", "encode", "--index", index, "--model", trained_reader, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]
