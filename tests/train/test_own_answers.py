"""The decoder's own right answers, as questions for `qa`."""

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
from ragx_train.data import own_answers
from ragx_train.data.own_answers import answer, telling, write_own_answers
from ragx_train.data.questions import gold_passages
from ragx_train.recipes.qa import QaSettings
from ragx_train.signals import Interrupted
from transformers import AutoModelForCausalLM

from ragx.errors import ConfigError, CorpusError
from ragx.models import resolve
from ragx.reader.prompt import build_prompt
from ragx.util.tokenization import load_tokenizer, plain_ids
from tests.helpers.tiny_runs import tiny_settings, write_rows

SAID = " most of the light."


@pytest.fixture(scope="module")
def reciting(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder that says `SAID` and ends, whatever it reads: each token's embedding points to the token after it."""
    folder = tmp_path_factory.mktemp("reciting")
    shutil.copytree(tiny_decoder, folder, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_decoder)
    tokenizer = load_tokenizer(tiny_decoder)
    chain = [*plain_ids(tokenizer, ["\n" + SAID])[0], tokenizer.eos_token_id]
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
    """Five questions, of which `SAID` answers two."""
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
    told = tiny_settings("qa", decoder, folder, *overrides)
    assert isinstance(told, QaSettings)
    return told


def test_rows_that_the_decoder_answers_rightly_are_kept_with_its_answer(
    reciting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_answers, "TOGETHER", 3)
    out = tmp_path / "own.jsonl"
    assert write_own_answers(settings(reciting, tmp_path), out) == (2, 4), "a row without a gold passage is not asked"
    written = [json.loads(line) for line in out.read_text().splitlines()]
    expected = [{**row, "answers": [SAID.strip()]} for row in (rows()[0], rows()[2])]
    assert sorted(written, key=str) == sorted(expected, key=str)


def test_a_question_too_long_for_a_prompt_is_left_out_and_said(
    reciting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = settings(reciting, tmp_path)
    write_rows(tmp_path / "questions.jsonl", [*rows(), {**rows()[0], "question": "What does it reflect? " * 400}])
    assert write_own_answers(told, tmp_path / "own.jsonl") == (2, 4)
    assert "1 questions are too long for data.max_prompt_tokens and are left out" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_answers_up_to_then(
    number: signal.Signals, reciting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> list[str | None]:
        os.kill(os.getpid(), number)
        return answer(*arguments)

    monkeypatch.setattr(own_answers, "answer", interrupted)
    monkeypatch.setattr(own_answers, "TOGETHER", 3)
    out = tmp_path / "own.jsonl"
    with pytest.raises(Interrupted, match=r"stopped by a signal: 2 right answers to 3 questions in .*own\.jsonl"):
        write_own_answers(settings(reciting, tmp_path), out)
    assert [json.loads(line)["answers"] for line in out.read_text().splitlines()] == [[SAID.strip()]] * 2


def test_an_answer_that_does_not_end_is_none(reciting: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(reciting)
    needed = len(plain_ids(tokenizer, [SAID])[0]) + 1
    out = tmp_path / "own.jsonl"
    with pytest.raises(CorpusError, match="none of the decoder's answers to 4 questions is right"):
        write_own_answers(settings(reciting, tmp_path, f"data.max_answer_tokens={needed - 1}"), out)
    assert not out.exists()
    assert write_own_answers(settings(reciting, tmp_path, f"data.max_answer_tokens={needed}"), out)[0] == 2


def test_what_cannot_be_done_is_one_line_and_loses_nothing(reciting: Path, tmp_path: Path) -> None:
    told, out = settings(reciting, tmp_path), tmp_path / "own.jsonl"
    with pytest.raises(CorpusError, match="none of the decoder's answers to 0 questions is right"):
        write_own_answers(told, out, deadline=time.monotonic())
    out.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write_own_answers(told, out)
    assert out.read_text() == "mine"
    write_rows(tmp_path / "questions.jsonl", [{"question": "How much?", "answers": [3], "context": "Snow."}])
    with pytest.raises(CorpusError, match=r"questions\.jsonl:1 is no question"):
        write_own_answers(told, tmp_path / "other.jsonl")
    write_rows(tmp_path / "questions.jsonl", [{"question": "How much?", "answers": ["most"], "ctxs": [None]}])
    with pytest.raises(CorpusError, match=r"questions\.jsonl:1: `ctxs` is not a list of passages"):
        write_own_answers(told, tmp_path / "other.jsonl")
    (tmp_path / "questions.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"data\.files: there is no"):
        write_own_answers(told, tmp_path / "other.jsonl")


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
def test_the_sentence_that_tells(text: str, answers: list[str], expected: str) -> None:
    assert telling(text, answers) == expected


def test_questions_answered_together_are_answered_as_alone() -> None:
    folder = resolve("smollm2-135m-instruct", "decoder")
    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    passages = gold_passages({"title": "Angola", "context": "The capital of Angola is Luanda."}, "here")
    prompts = [
        build_prompt(tokenizer, question, passages[:count], max_tokens=512).ids
        for question, count in (("What is the capital of Angola?", 1), ("What is the capital of France?", 0))
    ]
    together = answer(model, tokenizer, prompts, 24)
    assert together == [answer(model, tokenizer, [prompt], 24)[0] for prompt in prompts]
    assert together[0] is not None
    assert "Luanda" in together[0]
