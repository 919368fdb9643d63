"""Questions: splits by article, passages around the gold ones, and prompts as `ragx ask` writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragx_train.data.example import IGNORE, Example
from ragx_train.data.questions import Question, QuestionSet, QuestionSettings, load_questions
from ragx_train.recipes.qa import asked

from ragx.errors import ConfigError, CorpusError
from ragx.reader.prompt import build_prompt, passage_text
from ragx.util.tokenization import load_tokenizer, plain_ids
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


def told(folder: Path, **changes: object) -> QuestionSettings:
    values = {"folder": str(folder), "files": [{"path": "questions.jsonl"}], "test": 0, **changes}
    return QuestionSettings.model_validate(values)


def loaded(decoder: Path, settings: QuestionSettings) -> QuestionSet:
    ((among,), _) = load_questions(settings, load_tokenizer(decoder))
    return among


def example(decoder: Path, settings: QuestionSettings, groups: list[list[Question]], seed: int) -> Example:
    return asked(groups, settings, load_tokenizer(decoder), np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(8))
def test_the_loss_is_on_the_answer_and_the_end_of_the_turn(seed: int, decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    settings = told(tmp_path)
    question = loaded(decoder, settings).questions[seed]
    made = example(decoder, settings, [[question]], seed)
    labels = [label for label in made.labels if label != IGNORE]
    assert labels == [*question.answers[0], END]
    prompt = len(made.labels) - len(labels) + 1
    assert made.ids[prompt:] == labels[:-1]


@pytest.mark.parametrize("seed", range(4))
def test_the_prompt_is_the_one_of_ask(seed: int, decoder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "questions.jsonl", [{**ROW, "ctxs": [each for each in ROW["ctxs"] if each["is_gold"]]}])
    settings = told(tmp_path, prompt_passages=(2, 2), passages=(4, 4))
    among, tokenizer = loaded(decoder, settings), load_tokenizer(decoder)
    made, gold = example(decoder, settings, among.groups, seed), among.questions[0].gold
    prompts = [build_prompt(tokenizer, ROW["question"], order, max_tokens=1024).ids for order in (gold, gold[::-1])]
    answer = [label for label in made.labels if label != IGNORE]
    assert made.ids[: len(made.ids) - len(answer) + 1] in prompts
    assert answer[:-1] in plain_ids(tokenizer, ROW["answers"])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), least=st.integers(0, 3), more=st.integers(0, 5))
def test_the_encoder_reads_what_each_question_is_about_and_nothing_twice(
    seed: int, least: int, more: int, decoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("questions")
    write_questions(folder)
    settings = told(folder, passages=(least, least + more), questions=5)
    among = loaded(decoder, settings)
    groups = [among.groups[place] for place in among.order(2, np.random.default_rng(seed))]
    made = example(decoder, settings, groups, seed)
    read = [tuple(ids) for ids in made.passages]
    assert len(set(read)) == len(read)
    assert max(1, least) <= len(read) <= max(1, least + more)
    assert max(made.segments) == len(made.gold) == min(5, sum(len(group) for group in groups[: len(read)]))
    tokenizer = load_tokenizer(decoder)
    about = [(each.text, plain_ids(tokenizer, [passage_text(each.gold[0])])[0]) for each in among.questions]
    for segment, gold in enumerate(made.gold, start=1):
        own = [token for token, of in zip(made.ids, made.segments, strict=True) if of in (0, segment)]
        assert len(gold) == 1
        assert made.passages[gold[0]] in [passage for question, passage in about if question in tokenizer.decode(own)]


def test_as_many_passages_stand_in_the_prompt_as_were_asked_for(decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    settings, tokenizer = told(tmp_path, prompt_passages=(1, 3), passages=(4, 4)), load_tokenizer(decoder)
    among = loaded(decoder, settings)
    texts = [group[0].gold[0].text for group in among.groups[:4]]
    seen = set()
    for seed in range(30):
        start = tokenizer.decode(example(decoder, settings, among.groups, seed).ids)
        seen.add(sum(start.count(each) for each in texts))
    assert seen == {1, 2, 3}


def test_questions_about_passages_of_the_prompt_come_first(decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    settings, tokenizer = told(tmp_path, prompt_passages=(2, 2), passages=(4, 4), questions=2), load_tokenizer(decoder)
    among = loaded(decoder, settings)
    for seed in range(10):
        made = example(decoder, settings, among.groups, seed)
        prompt = tokenizer.decode(made.ids)
        about = [tokenizer.decode(made.passages[place]).partition("\n")[2] for (place,) in made.gold]
        assert len(about) == 2
        assert all(text in prompt for text in about)


@pytest.mark.parametrize(("room", "read"), [(2, {"A", "B"}), (3, {"A", "B", "?"}), (9, {"A", "B", "C", "D"})])
def test_a_row_s_own_distractors_fill_the_room(room: int, read: set[str], decoder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "questions.jsonl", [ROW])
    settings = told(tmp_path, passages=(room, room))
    made = example(decoder, settings, loaded(decoder, settings).groups, 0)
    titles = {load_tokenizer(decoder).decode(passage[:3])[0] for passage in made.passages}
    assert len(made.passages) == len(read)
    assert titles == read or ("?" in read and {"A", "B"} < titles)
    assert len(made.gold[0]) == 2


def test_articles_are_in_one_split_each(decoder: Path, tmp_path: Path) -> None:
    write_questions(tmp_path, articles=40)
    training, held_out = load_questions(told(tmp_path, test=0.3), load_tokenizer(decoder))
    titles = [{question.gold[0].title for question in each[0].questions} for each in (training, held_out)]
    assert not titles[0] & titles[1]
    assert len(titles[0] | titles[1]) == 40
    assert len(titles[1]) == pytest.approx(12, abs=8)
    assert sum(len(each[0].questions) for each in (training, held_out)) == 160


def test_rows_without_passage_short_answer_or_short_question_are_left_out_and_counted(
    decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [{**ROW, "answers": ["snow " * 100]}, {**ROW, "question": "Why is it snow? " * 400}]
    write_rows(tmp_path / "questions.jsonl", [ROW, {"question": "Why?", "answers": ["sun"], "context": ""}, *long])
    ((among,), _) = load_questions(told(tmp_path), load_tokenizer(decoder))
    assert len(among.questions) == 1
    assert "3 rows without a passage, a short answer or a short question are left out" in capsys.readouterr().err


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
    write_rows(tmp_path / "questions.jsonl", [{**ROW, "ctxs": ["It is snow."]}])
    with pytest.raises(CorpusError, match=r"questions\.jsonl:1: `ctxs` is not a list of passages"):
        load_questions(told(tmp_path), tokenizer)
    write_rows(tmp_path / "questions.jsonl", [])
    with pytest.raises(CorpusError, match="has no question to train on"):
        load_questions(told(tmp_path), tokenizer)
