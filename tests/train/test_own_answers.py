"""The decoder's own correct answers, as questions for `qa`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from ragx_train.data.own_answers import answer_sentence, write_own_answers
from ragx_train.data.written import answers, open_writer
from ragx_train.errors import Interrupted, OutputError
from ragx_train.recipes.qa import QaSettings
from transformers import AutoConfig, AutoModelForCausalLM

from ragx.corpus.questions import parse_question
from ragx.errors import ConfigError, CorpusError
from ragx.models import resolve
from ragx.reader.prompt import build_prompt
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny_runs import tiny_settings, write_rows

SAID = " most of the light."


@pytest.fixture(scope="module")
def reciting(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder that always answers `SAID`: the embedding of each token points to the next token."""
    folder = tmp_path_factory.mktemp("reciting")
    shutil.copytree(tiny_decoder, folder, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_decoder)
    tokenizer = load_tokenizer(tiny_decoder)
    chain = [*tokenizer.plain_ids(["\n" + SAID])[0], tokenizer.eos_token_id]
    assert len({*chain}) == len(chain) <= model.config.hidden_size
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for place, (token, following) in enumerate(pairwise(chain)):
            model.model.embed_tokens.weight[token] = torch.eye(model.config.hidden_size)[place]
            model.lm_head.weight[following] = torch.eye(model.config.hidden_size)[place] * 10
    model.save_pretrained(folder)
    return folder


def rows() -> list[dict[str, Any]]:
    """Five questions; `SAID` answers two of them."""
    text = "Snow is cold. It reflects most of the light. Soil does not."
    passage = {"title": "Snow", "context": text}
    return [
        {"question": "What does it reflect?", "answers": ["nothing", "the Light"], **passage},
        {"question": "How cold is it?", "answers": ["very"], **passage},
        {"question": "How much?", "answers": ["most"], "ctxs": [{"title": "Snow", "text": text, "is_gold": True}]},
        {"question": "How much?", "answers": ["most"], "ctxs": [{"title": "Snow", "text": text}]},
        {"question": "How much?", "answers": ["mos"], **passage},
    ]


def settings(decoder: Path, folder: Path, *overrides: str) -> QaSettings:
    write_rows(folder / "questions.jsonl", rows())
    settings = tiny_settings("qa", decoder, folder, *overrides)
    assert isinstance(settings, QaSettings)
    return settings


def test_rows_that_the_decoder_answers_correctly_are_written_with_its_answer(reciting: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.jsonl"
    assert write_own_answers(settings(reciting, tmp_path), out, batch_size=3) == (2, 4), "one has no gold passage"
    written = [json.loads(line) for line in out.read_text().splitlines()]
    expected = [{**row, "answers": [SAID.strip()]} for row in (rows()[0], rows()[2])]
    assert sorted(written, key=str) == sorted(expected, key=str)


def test_a_question_too_long_for_a_prompt_is_left_out_with_a_notice(
    reciting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_qa = settings(reciting, tmp_path)
    write_rows(tmp_path / "questions.jsonl", [*rows(), {**rows()[0], "question": "What does it reflect? " * 400}])
    assert write_own_answers(of_qa, tmp_path / "own.jsonl") == (2, 4)
    assert "max_prompt_tokens" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_answers_so_far(number: signal.Signals, reciting: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.jsonl"
    with pytest.raises(Interrupted, match="2 correct answers to 3 questions"):
        write_own_answers(
            settings(reciting, tmp_path), out, batch_size=3, on_progress=lambda _: os.kill(os.getpid(), number)
        )
    assert [json.loads(line)["answers"] for line in out.read_text().splitlines()] == [[SAID.strip()]] * 2


def test_an_answer_that_does_not_end_is_left_out(reciting: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(reciting)
    needed = len(tokenizer.plain_ids([SAID])[0]) + 1
    out = tmp_path / "own.jsonl"
    with pytest.raises(CorpusError, match="4 questions"):
        write_own_answers(settings(reciting, tmp_path, f"data.max_answer_tokens={needed - 1}"), out)
    assert not out.exists()
    assert write_own_answers(settings(reciting, tmp_path, f"data.max_answer_tokens={needed}"), out)[0] == 2


def test_an_error_replaces_no_file(reciting: Path, tmp_path: Path) -> None:
    of_qa, out = settings(reciting, tmp_path), tmp_path / "own.jsonl"
    with pytest.raises(CorpusError, match="0 questions"):
        write_own_answers(of_qa, out, deadline=time.monotonic())
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_own_answers(of_qa, out)
    assert out.read_text() == "mine"
    write_rows(tmp_path / "questions.jsonl", [{"question": "How much?", "answers": [3], "context": "Snow."}])
    with pytest.raises(CorpusError, match=r"questions\.jsonl:1"):
        write_own_answers(of_qa, tmp_path / "other.jsonl")
    (tmp_path / "questions.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"data\.files"):
        write_own_answers(of_qa, tmp_path / "other.jsonl")


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("Snow is cold. It reflects light. Soil does not.", ["light"], "It reflects light."),
        ("Snow is cold. It reflects light. Light is bright.", ["dark", "light"], "It reflects light."),
        ("It is 2.5 m high. It is a volcano.", ["2.5 m"], "It is 2.5 m high."),
        ('Was it cold? "Yes," he said.', ["yes"], '"Yes," he said.'),
        ("It is cold. It is white.", ["cold. It is"], "It is cold. It is white."),
        ("Snow is cold.", ["absent"], "Snow is cold."),
    ],
)
def test_the_sentence_with_an_answer(text: str, answers: list[str], expected: str) -> None:
    assert answer_sentence(text, answers) == expected


def test_a_prompt_without_room_for_an_answer_in_the_window_has_none(reciting: Path) -> None:
    writer = open_writer(reciting)
    window = AutoConfig.from_pretrained(reciting).max_position_embeddings
    start = writer.tokenizer.plain_ids(["\n"])[0]
    lengths = [len(start), window, window + 9]
    prompts = [start * (length // len(start)) for length in lengths]
    assert answers(writer, prompts, 24) == [SAID.strip(), None, None]


@pytest.mark.slow
def test_questions_answered_in_a_batch_are_answered_as_if_alone() -> None:
    writer = open_writer(resolve("smollm2-135m-instruct", "decoder"))
    row = {"question": "Where?", "answers": [], "title": "Angola", "context": "The capital of Angola is Luanda."}
    passages = parse_question(row).gold
    prompts = [
        build_prompt(writer.tokenizer, question, passages[:count], max_tokens=512).ids
        for question, count in (("What is the capital of Angola?", 1), ("What is the capital of France?", 0))
    ]
    together = answers(writer, prompts, 24)
    assert together == [answers(writer, [prompt], 24)[0] for prompt in prompts]
    assert together[0] is not None
    assert "Luanda" in together[0]
