"""Questions: splits by article, gold passages and distractors, and the prompts of `ragx ask`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragx_train.data.example import IGNORE, Example
from ragx_train.data.questions import QuestionSet, QuestionSettings, TrainingQuestion, load_questions
from ragx_train.recipes.qa import question_example

from ragx.errors import ConfigError, CorpusError
from ragx.reader.prompt import build_prompt, passage_text
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny_runs import write_questions, write_rows

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


def settings_for(folder: Path, **changes: object) -> QuestionSettings:
    values = {"folder": str(folder), "files": [{"path": "questions.jsonl"}], "test": 0, **changes}
    return QuestionSettings.model_validate(values)


def loaded(decoder: Path, settings: QuestionSettings) -> QuestionSet:
    ((questions,), _) = load_questions(settings, load_tokenizer(decoder))
    return questions


def example(
    decoder: Path, settings: QuestionSettings, groups: Sequence[Sequence[TrainingQuestion]], seed: int
) -> Example:
    return question_example(groups, settings, load_tokenizer(decoder), np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(8))
def test_the_loss_is_on_the_answer_and_the_end_of_the_turn(seed: int, decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    settings = settings_for(tmp_path)
    question = [each for group in loaded(decoder, settings).groups for each in group][seed]
    row = example(decoder, settings, [[question]], seed)
    labels = [label for label in row.labels if label != IGNORE]
    assert labels == [*question.answer_ids[0], END]
    prompt = len(row.labels) - len(labels) + 1
    assert row.ids[prompt:] == labels[:-1]


@pytest.mark.parametrize("seed", range(4))
def test_the_prompt_is_that_of_ask(seed: int, decoder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "questions.jsonl", [{**ROW, "ctxs": [each for each in ROW["ctxs"] if each["is_gold"]]}])
    settings = settings_for(tmp_path, prompt_passages=(2, 2), passages=(4, 4))
    groups, tokenizer = loaded(decoder, settings).groups, load_tokenizer(decoder)
    row, gold = example(decoder, settings, groups, seed), groups[0][0].gold
    prompts = [build_prompt(tokenizer, ROW["question"], order, max_tokens=1024).ids for order in (gold, gold[::-1])]
    answer = [label for label in row.labels if label != IGNORE]
    assert row.ids[: len(row.ids) - len(answer) + 1] in prompts
    assert answer[:-1] in tokenizer.plain_ids(ROW["answers"])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), least=st.integers(0, 3), more=st.integers(0, 5))
def test_the_encoder_reads_the_passage_of_each_question_and_none_twice(
    seed: int, least: int, more: int, decoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("questions")
    write_questions(folder)
    settings = settings_for(folder, passages=(least, least + more), questions=5)
    questions = loaded(decoder, settings)
    groups = [questions.groups[place] for place in questions.order(2, np.random.default_rng(seed))]
    row = example(decoder, settings, groups, seed)
    read = [tuple(ids) for ids in row.passages]
    assert len(set(read)) == len(read)
    assert max(1, least) <= len(read) <= max(1, least + more)
    assert max(row.segments) == len(row.gold) == min(5, sum(len(group) for group in groups[: len(read)]))
    tokenizer = load_tokenizer(decoder)
    about = [(each.text, tokenizer.plain_ids([passage_text(each.gold[0])])[0]) for group in groups for each in group]
    for segment, gold in enumerate(row.gold, start=1):
        own = [token for token, of in zip(row.ids, row.segments, strict=True) if of in (0, segment)]
        assert len(gold) == 1
        assert row.passages[gold[0]] in [passage for question, passage in about if question in tokenizer.decode(own)]


@pytest.mark.parametrize("seed", range(8))
def test_passages_that_do_not_fit_beside_every_question_are_in_no_prompt(
    seed: int, decoder: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "question": f"Which{' very' * number} word?",
            "answers": ["snow"],
            "title": f"{number}",
            "context": "snow " * 30,
        }
        for number in range(8)
    ]
    write_rows(tmp_path / "questions.jsonl", rows)
    few = settings_for(tmp_path, prompt_passages=(4, 4), passages=(8, 8), max_prompt_tokens=260)
    row = example(decoder, few, loaded(decoder, few).groups, seed)
    assert max(row.segments) == 8
    alone = sum(len(load_tokenizer(decoder).chat_ids(each["question"])) for each in rows)
    assert len(row.ids) < few.max_prompt_tokens + alone, "the questions share their prompt's passages"


def test_the_prompt_has_as_many_passages_as_the_settings_say(decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    settings, tokenizer = settings_for(tmp_path, prompt_passages=(1, 3), passages=(4, 4)), load_tokenizer(decoder)
    groups = loaded(decoder, settings).groups
    texts = [group[0].gold[0].text for group in groups[:4]]
    seen = set()
    for seed in range(30):
        prompt = tokenizer.decode(example(decoder, settings, groups, seed).ids)
        seen.add(sum(prompt.count(each) for each in texts))
    assert seen == {1, 2, 3}


def test_questions_about_passages_of_the_prompt_come_first(decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    settings = settings_for(tmp_path, prompt_passages=(2, 2), passages=(4, 4), questions=2)
    tokenizer = load_tokenizer(decoder)
    groups = loaded(decoder, settings).groups
    for seed in range(10):
        row = example(decoder, settings, groups, seed)
        prompt = tokenizer.decode(row.ids)
        about = [tokenizer.decode(row.passages[place]).partition("\n")[2] for (place,) in row.gold]
        assert len(about) == 2
        assert all(text in prompt for text in about)


@pytest.mark.parametrize(("room", "read"), [(2, {"A", "B"}), (3, {"A", "B", "?"}), (9, {"A", "B", "C", "D"})])
def test_a_row_s_own_distractors_fill_the_room(room: int, read: set[str], decoder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "questions.jsonl", [ROW])
    settings = settings_for(tmp_path, passages=(room, room))
    row = example(decoder, settings, loaded(decoder, settings).groups, 0)
    titles = {load_tokenizer(decoder).decode(passage[:3])[0] for passage in row.passages}
    assert len(row.passages) == len(read)
    assert titles == read or ("?" in read and {"A", "B"} < titles)
    assert len(row.gold[0]) == 2


def test_an_article_is_in_one_split(decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path, articles=40)
    training, held_out = load_questions(settings_for(tmp_path, test=0.3), load_tokenizer(decoder))
    titles = [{group[0].gold[0].title for group in each[0].groups} for each in (training, held_out)]
    assert not titles[0] & titles[1]
    assert len(titles[0] | titles[1]) == 40
    assert len(titles[1]) == pytest.approx(12, abs=8)
    assert sum(len(group) for each in (training, held_out) for group in each[0].groups) == 160


def test_questions_that_are_too_long_or_without_passage_are_left_out_with_a_notice(
    decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [{**ROW, "answers": ["snow " * 100]}, {**ROW, "question": "Why is it snow? " * 400}]
    write_rows(tmp_path / "questions.jsonl", [ROW, {"question": "Why?", "answers": ["sun"], "context": ""}, *long])
    ((group,),) = [loaded(decoder, settings_for(tmp_path)).groups]
    assert len(group) == 1
    assert "3 questions left out" in capsys.readouterr().err


def test_a_bad_file_is_named(decoder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(decoder)
    with pytest.raises(ConfigError, match=r"data\.files"):
        load_questions(settings_for(tmp_path), tokenizer)
    for row in ({"question": "Why?", "answers": "sun"}, {**ROW, "ctxs": [{"title": "A", "is_gold": True}]}):
        write_rows(tmp_path / "questions.jsonl", [row])
        with pytest.raises(CorpusError, match=r"questions\.jsonl:1"):
            load_questions(settings_for(tmp_path), tokenizer)
    write_rows(tmp_path / "questions.jsonl", [])
    with pytest.raises(CorpusError, match="no question"):
        load_questions(settings_for(tmp_path), tokenizer)
