"""Groups to rank: positives from the gold paragraphs, negatives from hybrid search and the same article."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragx_train.data.mining import Miner, RankedQuestion, question_passages
from ragx_train.data.ranking import Ranking, RankingSettings, load_ranking

from ragx.config import Chunking, IndexSettings
from ragx.corpus.questions import Question, parse_question
from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.metrics import contains
from ragx.index import Index, build_index
from tests.helpers.tiny_encoders import save_encoder
from tests.helpers.tiny_runs import WORDS, write_coloured_questions, write_rows
from tests.helpers.toy_embedders import WordEmbedder

CHUNKING = Chunking(size=6)


def row(question: str, answers: list[str], title: str, context: str) -> dict[str, object]:
    return {"question": question, "answers": answers, "title": title, "context": context}


def mined(rows: list[dict[str, object]], folder: Path) -> tuple[Index, list[RankedQuestion | None]]:
    questions = [parse_question(each) for each in rows]
    build_index(question_passages(questions, CHUNKING), folder, WordEmbedder(), IndexSettings(), quiet=True)
    index = Index.open(folder)
    miner = Miner(index, WordEmbedder(), CHUNKING, candidates=5)
    return index, [miner.mine(each, held_out=False) for each in questions]


def texts(index: Index, rows: list[int]) -> list[str]:
    return [index.passage(each).text for each in rows]


sentences = st.lists(st.sampled_from([*WORDS, "the sun", "Most"]), min_size=3, max_size=16).map(" ".join)


@settings(max_examples=10, deadline=None)
@given(contexts=st.lists(sentences, min_size=3, max_size=8), answer=st.sampled_from(WORDS))
def test_no_negative_contains_an_answer(
    contexts: list[str], answer: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [
        row(f"where is {answer}", [answer], f"Part {n % 2} {answer * (n % 3 == 2)}", c) for n, c in enumerate(contexts)
    ]
    index, found = mined(rows, tmp_path_factory.mktemp("index"))
    for each in found:
        if each is not None:
            for number in (*each.negatives, *each.near):
                passage = index.passage(number)
                assert not contains(f"{passage.title} {passage.text}", [answer])
            assert all(contains(text, [answer]) for text in texts(index, each.positives))
            assert not {*each.positives} & {*each.negatives, *each.near}
            assert each.answered == [contains(text, [answer]) for text in texts(index, each.ranking)]


def test_positives_are_the_passages_of_the_gold_paragraph_with_an_answer(tmp_path: Path) -> None:
    long = "snow is white and it reflects light but soil is dark brown"
    rows = [
        row("what is soil", ["dark brown"], "Soil", long),
        row("what is sand", ["dark brown"], "", "yellow sand becomes quite dark brown"),
    ]
    index, (first, second) = mined(rows, tmp_path)
    assert first is not None
    assert texts(index, first.positives) == ["light but soil is dark brown"]
    assert texts(index, first.negatives) == ["snow is white and it reflects"], "of the same paragraph"
    assert second is not None
    assert texts(index, second.positives) == ["yellow sand becomes quite dark brown"]
    assert texts(index, second.negatives) == ["snow is white and it reflects"], "the other one holds the answer too"


def test_all_passages_of_several_gold_paragraphs_are_positive(tmp_path: Path) -> None:
    contexts = [
        {"title": "Snow", "text": "snow reflects more light than soil", "is_gold": True},
        {"title": "Soil", "text": "soil is dark brown", "is_gold": True},
        {"title": "Sun", "text": "the sun gives light", "is_gold": False},
    ]
    index, (found,) = mined([{"question": "what reflects less light", "answers": ["soil"], "ctxs": contexts}], tmp_path)
    assert found is not None
    assert texts(index, found.positives) == [each["text"] for each in contexts[:2]]
    assert texts(index, found.negatives) == ["the sun gives light"]


def test_a_passage_that_is_little_but_its_answer_is_no_positive(tmp_path: Path) -> None:
    rows = [
        row("what of snow", ["snow reflects light"], "", "snow reflects light"),
        row("sun", ["hot"], "", "it is hot"),
    ]
    _, (found, _) = mined(rows, tmp_path)
    assert found is None


def test_equal_passages_of_several_rows_are_indexed_once() -> None:
    question = Question("q", ["a"], *[[parse_question(row("q", ["a"], "T", "a b c d e f g h")).gold[0]]] * 2)
    assert [each.text for each in question_passages([question, question], CHUNKING)] == ["a b c d e f", "g h"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


def settings_for(encoder: Path, folder: Path, **changes: object) -> RankingSettings:
    values = {"folder": str(folder), "files": [{"path": "questions.jsonl"}], "test": 0.2, "embedder": str(encoder)}
    return RankingSettings.model_validate({**values, "candidates": 6, "negatives": 3, **changes})


def loaded(encoder: Path, folder: Path, **changes: object) -> Ranking:
    return load_ranking(settings_for(encoder, folder, **changes), folder / "data", 0)


def test_groups_begin_with_the_answer_and_every_epoch_differs(encoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path)
    ranking = loaded(encoder, tmp_path)
    count = len(ranking.training)
    epochs = [[ranking.group(epoch * count + number, 0) for number in range(count)] for epoch in range(2)]
    answers = {each["question"]: each["answers"] for each in map(json.loads, (tmp_path / "questions.jsonl").open())}
    for epoch in epochs:
        assert sorted(group.question for group in epoch) == sorted(each.question for each in ranking.training)
        for group in epoch:
            answer, *others = group.passages
            assert contains(answer, answers[group.question])
            assert len(others) == 3
            assert not any(contains(text, answers[group.question]) for text in others)
            assert len({*group.passages}) == 4
    assert epochs[0] != epochs[1]
    assert ranking.group(3, 0) == epochs[0][3]


def test_articles_are_either_trained_on_or_held_out(encoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path)
    ranking = loaded(encoder, tmp_path)
    articles = [{ranking.text(each.positives[0])[:7] for each in part} for part in (ranking.training, ranking.held_out)]
    assert len(articles[0]) + len(articles[1]) == 12
    assert articles[1]
    assert not articles[0] & articles[1]


def test_a_file_s_share_is_limited_but_all_its_passages_are_indexed(encoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path)
    ranking = loaded(encoder, tmp_path, files=[{"path": "questions.jsonl", "most": 9}])
    assert len(ranking.training) + len(ranking.held_out) == 9
    assert ranking.text(95)


def test_what_was_mined_is_kept(encoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path)
    first = loaded(encoder, tmp_path)
    (mined_file,) = (tmp_path / "data").glob("*/questions.jsonl")
    before = mined_file.stat()
    again = loaded(encoder, tmp_path, negatives=2)
    assert again.training == first.training
    assert len(again.group(0, 0).passages) == 3
    assert mined_file.stat() == before


def test_missing_files_and_files_without_a_gold_passage(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        loaded(encoder, tmp_path)
    write_rows(tmp_path / "questions.jsonl", [{"question": "Why?", "answers": ["so"]}])
    with pytest.raises(CorpusError, match="no question to train on"):
        loaded(encoder, tmp_path)
