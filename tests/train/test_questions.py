"""Questions: splits by article, passages around the gold ones, and prompts as `ragx ask` writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragx_train.example import IGNORE, Example
from ragx_train.qa import asked
from ragx_train.questions import QuestionSet, QuestionSettings, load_questions
from tiny_runs import write_questions, write_rows

from ragx.errors import ConfigError, CorpusError
from ragx.reader.prompt import build_prompt, passage_text
from ragx.tokenization import load_tokenizer, plain_ids

END = 2
ROW = {
    "question": "Which is it?",
    "answers": ["snow", "fresh snow"],
    "title": "A; B",
    "context": "both",
    "ctxs": [
        {"title": "A", "text": "It is snow.", "is_gold": True},
        {"title": "C", "text": "Soil is dark.", "is_gold": False},
        {"title": "B", "text": "Snow is fresh.", "is_gold": True},
        {"title": "D", "text": "The sun is light.", "is_gold": False},
    ],
}


def told(folder: Path, **changes: object) -> QuestionSettings:
    values = {"folder": str(folder), "files": [{"path": "questions.jsonl"}], "test": 0, **changes}
    return QuestionSettings.model_validate(values)


def example(decoder: Path, settings: QuestionSettings, seed: int) -> tuple[Example, QuestionSet]:
    tokenizer = load_tokenizer(decoder)
    ((among,), _) = load_questions(settings, tokenizer)
    question = among.questions[seed % len(among.questions)]
    return asked([question], among, settings, tokenizer, np.random.default_rng(seed)), among


@pytest.mark.parametrize("seed", range(8))
def test_the_loss_is_on_the_answer_and_the_end_of_the_turn(seed: int, decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    made, among = example(decoder, told(tmp_path, gold_in_prompt=0), seed)
    labels = [label for label in made.labels if label != IGNORE]
    question = among.questions[seed]
    assert labels == [*question.answers[0], END]
    prompt = len(made.labels) - len(labels) + 1
    assert made.ids[prompt:] == labels[:-1]


@pytest.mark.parametrize("seed", range(4))
def test_the_prompt_is_the_one_of_ask(seed: int, decoder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "questions.jsonl", [ROW])
    settings = told(tmp_path, gold_in_prompt=1, prompt_passages=(2, 2), passages=(4, 4))
    made, among = example(decoder, settings, seed)
    tokenizer, gold = load_tokenizer(decoder), among.questions[0].gold
    prompts = [build_prompt(tokenizer, ROW["question"], order, max_tokens=1024).ids for order in (gold, gold[::-1])]
    answer = [label for label in made.labels if label != IGNORE]
    assert made.ids[: len(made.ids) - len(answer) + 1] in prompts
    assert answer[:-1] in plain_ids(tokenizer, ROW["answers"])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), least=st.integers(0, 3), more=st.integers(0, 5))
def test_the_encoder_always_reads_the_gold_and_distinct_others(
    seed: int, least: int, more: int, decoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("questions")
    write_questions(folder)
    made, among = example(decoder, told(folder, passages=(least, least + more)), seed)
    tokenizer = load_tokenizer(decoder)
    known = {tuple(ids) for ids in plain_ids(tokenizer, [passage_text(passage) for passage in among.passages])}
    read = [tuple(ids) for ids in made.passages]
    gold = among.questions[seed % len(among.questions)].gold[0]
    assert tuple(plain_ids(tokenizer, [passage_text(gold)])[0]) in read
    assert len(set(read)) == len(read)
    assert set(read) <= known
    assert max(1, least) <= len(read) <= max(1, least + more)


def share_with_gold_in_prompt(decoder: Path, settings: QuestionSettings) -> float:
    tokenizer = load_tokenizer(decoder)
    ((among,), _) = load_questions(settings, tokenizer)
    found = []
    for seed in range(200):
        question = among.questions[seed % len(among.questions)]
        made = asked([question], among, settings, tokenizer, np.random.default_rng(seed))
        found.append(question.gold[0].text in tokenizer.decode(made.ids))
    return sum(found) / len(found)


def test_the_gold_is_in_the_prompt_as_often_as_was_asked_for(decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    assert share_with_gold_in_prompt(decoder, told(tmp_path, gold_in_prompt=0)) == 0
    assert share_with_gold_in_prompt(decoder, told(tmp_path, gold_in_prompt=1)) == 1
    assert share_with_gold_in_prompt(decoder, told(tmp_path)) == pytest.approx(0.3, abs=0.12)


def test_distractors_are_from_the_same_article_or_any(decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    ((among,), _) = load_questions(told(tmp_path), load_tokenizer(decoder))
    question, random = among.questions[0], np.random.default_rng(0)
    near = among.beside(question, 1, 1.0, random)
    assert [passage.title for passage in near] == [question.gold[0].title]
    titles = {passage.title for _ in range(20) for passage in among.beside(question, 2, 0.0, random)}
    assert len(titles) > 5


def test_a_row_s_own_distractors_are_taken(decoder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "questions.jsonl", [ROW])
    ((among,), _) = load_questions(told(tmp_path), load_tokenizer(decoder))
    assert [passage.title for passage in among.questions[0].gold] == ["A", "B"]
    found = among.beside(among.questions[0], 9, 0.7, np.random.default_rng(0))
    assert sorted(passage.title for passage in found) == ["C", "D"]


def test_articles_are_in_one_split_each(decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path, articles=40)
    training, held_out = load_questions(told(tmp_path, test=0.3), load_tokenizer(decoder))
    titles = [{question.gold[0].title for question in each[0].questions} for each in (training, held_out)]
    assert not titles[0] & titles[1]
    assert len(titles[0] | titles[1]) == 40
    assert len(titles[1]) == pytest.approx(12, abs=8)
    assert sum(len(each[0].questions) for each in (training, held_out)) == 160


def test_rows_without_passage_or_short_answer_are_left_out_and_counted(
    decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {**ROW, "answers": ["snow " * 100]}
    write_rows(tmp_path / "questions.jsonl", [ROW, {"question": "Why?", "answers": ["sun"], "context": ""}, long])
    ((among,), _) = load_questions(told(tmp_path), load_tokenizer(decoder))
    assert len(among.questions) == 1
    assert "questions.jsonl: 2 rows without a passage or a short answer are left out" in capsys.readouterr().err


def test_bad_files_are_one_line(decoder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(decoder)
    with pytest.raises(ConfigError, match=r"data\.files: there is no .*questions\.jsonl"):
        load_questions(told(tmp_path), tokenizer)
    write_rows(tmp_path / "questions.jsonl", [{"question": "Why?", "answers": "sun"}])
    with pytest.raises(CorpusError, match=r"questions\.jsonl:1 is no question"):
        load_questions(told(tmp_path), tokenizer)
    write_rows(tmp_path / "questions.jsonl", [{**ROW, "ctxs": [{"title": "A", "is_gold": True}]}])
    with pytest.raises(CorpusError, match=r"questions\.jsonl:1 has a passage without a text"):
        load_questions(told(tmp_path), tokenizer)
    write_rows(tmp_path / "questions.jsonl", [])
    with pytest.raises(CorpusError, match="has no question to train on"):
        load_questions(told(tmp_path), tokenizer)
