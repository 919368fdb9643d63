"""Haystacks are the documents' sentences in order, with the whole needle at the requested depth."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation import needle
from ragx.evaluation.plot import FOUND, Grid, check_plot, draw_grids
from ragx.evaluation.results import Results
from ragx.reader.cepe import CepeReader


@pytest.fixture(scope="module")
def hay(reader: CepeReader, documents: Path) -> needle.Sentences:
    return needle.read_sentences(documents, reader.tokenizer, tokens=1500)


@settings(max_examples=30, deadline=None)
@given(st.integers(250, 1500), st.floats(0, 1), st.integers(0, 99))
def test_a_haystack(reader: CepeReader, hay: needle.Sentences, length: int, depth: float, seed: int) -> None:
    sentence = needle.make_needle(seed).sentence
    passages = needle.hide(sentence, hay, reader.tokenizer, length=length, depth=depth, seed=seed)
    lengths = [len(ids) for ids in reader.tokenizer.plain_ids([f" {passage.text}" for passage in passages])]
    assert sum(lengths) <= length
    assert sum(lengths) > length - max(hay.tokens)
    assert all(size <= needle.CHUNK for size in lengths)
    whole = " ".join(passage.text for passage in passages)
    assert sum(sentence in passage.text for passage in passages) == 1
    before, after = whole.split(sentence)
    place = len(reader.tokenizer.plain_ids([before])[0]) / sum(lengths)
    assert abs(place - depth) <= 2 * max(hay.tokens) / length
    text = " ".join([*hay.texts, *hay.texts])
    assert " ".join((before + after).split()) in text


def test_the_ends_of_a_haystack(reader: CepeReader, hay: needle.Sentences) -> None:
    sentence = needle.make_needle(0).sentence
    first = needle.hide(sentence, hay, reader.tokenizer, length=900, depth=0, seed=3)
    last = needle.hide(sentence, hay, reader.tokenizer, length=900, depth=1, seed=3)
    assert first[0].text.startswith(sentence)
    assert last[-1].text.endswith(sentence)


def test_a_sentence_that_does_not_fit_is_skipped(reader: CepeReader) -> None:
    texts = ["Snow is white." if number % 5 else "white " * 300 for number in range(500)]
    hay = needle.Sentences(texts, [len(ids) for ids in reader.tokenizer.plain_ids([f" {each}" for each in texts])])
    assert max(hay.tokens) > 250
    for seed in range(20):
        passages = needle.hide("It is 5.", hay, reader.tokenizer, length=250, depth=1, seed=seed)
        tokens = [len(ids) for ids in reader.tokenizer.plain_ids([f" {passage.text}" for passage in passages])]
        assert 0.9 * 250 <= sum(tokens) <= 250


def test_sentences_have_all_words_in_order() -> None:
    text = "One two. Three!\nFour\n" + " ".join(map(str, range(120))) + ". End"
    sentences = needle.split_sentences(text)
    assert sentences[:2] == ["One two.", "Three!"]
    assert " ".join(sentences).split() == text.split()
    assert max(len(sentence.split()) for sentence in sentences) == 50


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("It is 48213.", True), ("48,213", True), ("482131", False), ("148213", False), ("4821", False), ("", False)],
)
def test_a_number_is_found_as_a_whole(answer: str, expected: bool) -> None:
    assert needle.contains_number(answer, "48213") is expected


def test_needles_differ() -> None:
    needles = [needle.make_needle(trial) for trial in range(40)]
    assert len({each.number for each in needles}) == 40
    assert all(each.number in each.sentence and each.number not in each.question for each in needles)


def test_a_grid(reader: CepeReader, documents: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json", {})
    hay = needle.read_sentences(documents, reader.tokenizer, tokens=900)
    table, grid = needle.evaluate(reader, hay, results, lengths=[200, 900], depths=[0, 100], trials=2)
    assert list(table.columns) == ["tokens", "depth 0 %", "depth 100 %", "all depths"]
    assert [row[0] for row in table.rows] == [200, 900]
    assert len((tmp_path / "r.json").read_text().splitlines()) == 1 + 2 * 2 * 2
    assert grid == [[0, 0], [0, 0]]  # a random model cannot know
    assert len(table.notes) == 1


def test_short_haystacks_are_noted(reader: CepeReader) -> None:
    words = "white " * 60
    hay = needle.Sentences([words] * 9, [len(reader.tokenizer.plain_ids([f" {words}"])[0])] * 9)
    length = 2 * hay.tokens[0]  # the needle takes the place of one of two
    table, _ = needle.evaluate(reader, hay, Results(None, {}), lengths=[length], depths=[0, 50], trials=3)
    assert table.notes[1].startswith(f"6 of 6 haystacks of {length} tokens")


def test_a_needle_in_the_answer_counts(reader: CepeReader, hay: needle.Sentences) -> None:
    results = Results(None, {})
    for trial in range(2):
        results.measure("length 200 depth 50", str(trial), lambda trial=trial: {"found": trial == 1, "tokens": 200})  # type: ignore[misc]
    table, grid = needle.evaluate(reader, hay, results, lengths=[200], depths=[50], trials=2)
    assert grid == [[0.5]]
    assert table.rows[0][1] == "50"


def test_bad_numbers(reader: CepeReader, hay: needle.Sentences, documents: Path) -> None:
    def evaluate(**changes: list[int]) -> None:
        options = {"lengths": [200], "depths": [0], **changes}
        needle.evaluate(reader, hay, Results(None, {}), **options, trials=1)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match="depths"):
        evaluate(depths=[101])
    with pytest.raises(ConfigError, match="positive"):
        evaluate(lengths=[0])
    with pytest.raises(CorpusError, match="too few"):
        needle.read_sentences(documents, reader.tokenizer, tokens=99_999)


def test_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    check_plot(path)
    draw_grids(path, [Grid("found", [1024, 2048, 4096], [0, 100], [[1, 0.5], [0.25, 0], [0, 0]])], FOUND)
    assert path.read_bytes().startswith(b"\x89PNG")
    for bad in (tmp_path / "grid.jpg", tmp_path / "missing" / "grid.png"):
        with pytest.raises(ConfigError, match="--plot"):
            check_plot(bad)
