"""Questions about an index's own passages: what is drawn, what is measured, and how two runs compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragx import RAG, Index, SamplingParams
from ragx.config import IndexSettings, ModelOptions, ReaderOptions
from ragx.corpus.questions import Question
from ragx.engine.decoding import AnswerStream
from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import Estimate
from ragx.evaluation.own_passages import AT_ONCE, draw_questions, evaluate, read_run, table
from ragx.evaluation.results import Results, Values
from ragx.evaluation.tables import Table
from ragx.index import build_index
from ragx.reader.full import FullReader
from ragx.reader.loading import open_readers
from ragx.reader.prompt import REFUSAL
from ragx.retrieval import Retriever
from ragx.retrieval.rerankers.calibration import Calibration
from ragx.types import Passage
from tests.evaluation.conftest import write_rows
from tests.helpers.tiny import save_reciting_decoder
from tests.helpers.tiny_cross_encoders import LengthReranker
from tests.helpers.toy_embedders import WordEmbedder, passage, passages

TEXTS = [
    "fresh snow reflects most of the light",
    "snow is light in the sun",
    "snow and soil",
    "dark soil absorbs the sun",
]
SAID = "snow? light"
"""The model's question and all of its answers."""
SHORT = SamplingParams(max_new_tokens=16)


@pytest.fixture(scope="module")
def open_rag(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], RAG]:
    """An index of texts, searched by BM25, behind a model that always says `SAID`."""
    decoder = tmp_path_factory.mktemp("decoder")
    save_reciting_decoder(tiny_decoder, decoder, f" {SAID}", ends=True)
    readers, _ = open_readers(ModelOptions(model=str(decoder), dtype="float32"))

    def opened(texts: list[str]) -> RAG:
        folder = tmp_path_factory.mktemp("index")
        build_index(passages(texts), folder, WordEmbedder(), IndexSettings(), quiet=True)
        return RAG(Retriever(Index.open(folder)), readers, method="bm25")

    return opened


@pytest.fixture(scope="module")
def rag(open_rag: Callable[[list[str]], RAG]) -> RAG:
    """Hits are ordered by length; unless one has 30 characters, none is likely to hold the answer."""
    opened = open_rag(TEXTS)
    opened.reranker = LengthReranker()
    opened.reranker.calibration = Calibration(slope=1, offset=-30)
    return opened


def question(text: str, answer: str) -> Question:
    return Question(text, [answer], [], [])


def test_questions_are_drawn_from_passages_that_support_their_answer(rag: RAG, tmp_path: Path) -> None:
    path = tmp_path / "new" / "questions.jsonl"
    drawn = draw_questions(rag, None, path, count=9, max_tokens=16)
    assert {each.gold[0].text for each in drawn} == {TEXTS[0], TEXTS[1]}
    assert {(each.text, *each.answers) for each in drawn} == {("snow?", SAID)}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["context"] for row in rows] == [each.gold[0].text for each in drawn]
    (first,) = draw_questions(rag, None, None, count=1, max_tokens=16)
    assert first == drawn[0]
    (filtered,) = draw_questions(rag, 'document == "doc1"', None, count=9, max_tokens=16)
    assert filtered.gold[0].text == TEXTS[1]


def test_an_interruption_keeps_the_questions_written_so_far(
    open_rag: Callable[[list[str]], RAG], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(FullReader):
        left = 2 * AT_ONCE  # a question and an answer each

        def stream(self, *arguments: Any) -> AnswerStream:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().stream(*arguments)

    rag = open_rag([f"fresh snow number {n} reflects the light" for n in range(20)])
    full = rag.readers["full"]
    assert isinstance(full, FullReader)
    rag.readers = {"full": Interrupted(full.model, full.tokenizer)}
    path = tmp_path / "q.jsonl"
    with pytest.raises(KeyboardInterrupt):
        draw_questions(rag, None, path, count=20, max_tokens=16)
    assert len(path.read_text().splitlines()) == AT_ONCE
    assert f"{AT_ONCE} questions in {path}" in capsys.readouterr().err


def test_a_model_that_writes_no_question_is_an_error(open_rag: Callable[[list[str]], RAG], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of the model's questions about 2 passages"):
        draw_questions(open_rag(["soil", "the sea is blue"]), None, tmp_path / "q.jsonl", count=1, max_tokens=16)
    assert not (tmp_path / "q.jsonl").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        draw_questions(open_rag(TEXTS), None, tmp_path / "file" / "q.jsonl", count=1, max_tokens=16)


def measured(rag: RAG, *questions: Question, k: int = 3) -> list[Values]:
    values = evaluate(rag, questions, Results(None, {}), k=k, options=ReaderOptions(), sampling=SHORT)
    return [values[each.key] for each in questions]


def test_what_is_measured_of_a_question(rag: RAG) -> None:
    light, soil, sun, none = measured(
        rag, question("snow?", SAID), question("snow?", "the soil"), question("soil?", "sun"), question("sea?", "blue")
    )
    assert light.pop("seconds") > 0
    assert light == {
        "question": "snow?",
        "answers": [SAID],
        "answer": SAID,
        "rank": 1,
        "cited": 1,
        "cited_gold": 1,
        "contains": True,
        "refused": False,
        "answer_without": REFUSAL,  # what is left has 13 characters
        "refused_without": True,
    }
    assert (soil["rank"], soil["cited"], soil["cited_gold"], soil["contains"]) == (3, 1, 0, False)
    assert (soil["refused"], soil["refused_without"]) == (False, False)
    assert (sun["rank"], sun["cited"], sun["refused"], sun["refused_without"]) == (1, 0, True, True)
    assert (none["rank"], none["cited"], none["answer"]) == (0, 0, SAID)


def test_the_passage_that_a_question_is_about_counts_whatever_its_answer(rag: RAG) -> None:
    gold = passage(0, TEXTS[2])
    (values,) = measured(rag, Question("snow?", ["nothing"], [gold], []))
    assert values["rank"] == 3


class Seeing(LengthReranker):
    """Keeps the texts that it sees."""

    def __init__(self) -> None:
        super().__init__(depth=2)
        self.seen: list[list[str]] = []

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        self.seen.append([passage.text for passage in passages])
        return super().scores(question, passages)


def test_hits_without_the_answer_are_those_of_an_index_without_its_passages(
    open_rag: Callable[[list[str]], RAG],
) -> None:
    texts = [*(f"snow{' light' * n}" for n in range(1, 30)), *(f"snow of the{' very' * n} dark sky" for n in range(40))]
    whole, part = open_rag(texts), open_rag([text for text in texts if "light" not in text])
    whole.reranker, part.reranker = Seeing(), Seeing()
    (values,) = measured(whole, question("snow?", "light"), k=1)
    assert values["rank"] == 1
    asked, without = whole.reranker.seen
    assert all("light" in text for text in asked)
    measured(part, question("snow?", "light"), k=1)
    assert without == part.reranker.seen[0]


def figures(shown: Table) -> dict[object, list[object]]:
    return {
        row[0]: [round(cell.value, 3) if isinstance(cell, Estimate) else cell for cell in row[1:]] for row in shown.rows
    }


def values(rank: int, cited: int = 0, cited_gold: int = 0, seconds: float = 1, **said: bool) -> Values:
    flags = {"contains": False, "refused": False, "refused_without": False} | said
    return {"rank": rank, "cited": cited, "cited_gold": cited_gold, "seconds": seconds, **flags}


MEASURED = {
    "a": values(1, 2, 1, 1, contains=True),
    "b": values(2, 1, 1, 3, contains=True, refused_without=True),
    "c": values(6, 0, 0, 9),
    "d": values(0, seconds=2, refused=True, refused_without=True),
}


def test_a_row_for_each_measure() -> None:
    shown = table({"k": 60}, MEASURED)
    assert figures(shown) == {
        "recall@1 (%)": [25.0],
        "recall@5 (%)": [50.0],
        "recall@10 (%)": [75.0],
        "recall@k (%)": [75.0],
        "MRR": [round((1 + 1 / 2 + 1 / 6) / 4, 3)],
        "citation precision (%)": [75.0],
        "answer contained (%)": [50.0],
        "refused (%)": [25.0],
        "refused without the answer (%)": [50.0],
        "seconds, median": [2.5],
    }
    assert "| MRR | 0.417 (" in shown.markdown()
    assert [name for name in figures(table({"k": 5}, MEASURED)) if str(name).startswith("recall")] == [
        "recall@1 (%)",
        "recall@k (%)",
    ]
    uncited = figures(table({"k": 5}, {"c": MEASURED["c"]}))
    assert uncited["citation precision (%)"] == [None]


def test_two_runs_are_paired_by_question() -> None:
    other = {"a": values(2, 1, 0, 2), "c": values(3, 1, 1, 4, contains=True), "z": values(1)}
    shown = table({"k": 60, "reader": "cepe"}, MEASURED, ({"k": 20, "reader": "cepe"}, other))
    assert list(shown.columns) == ["measure", "this run", "other run", "difference"]
    rows = figures(shown)
    assert rows["recall@1 (%)"] == [50.0, 0.0, 50.0]
    assert rows["recall@5 (%)"] == [50.0, 100.0, -50.0]
    assert rows["citation precision (%)"] == [50.0, 50.0, 50.0], "c has no citation in this run"
    assert rows["seconds, median"] == [5.0, 3.0, 2.0]
    assert shown.notes[0].startswith("2 questions")
    assert shown.notes[-1].endswith("2 questions of this run alone left out. Settings that differ: k 60 against 20.")
    with pytest.raises(ConfigError, match="no question in common"):
        table({"k": 60}, MEASURED, ({"k": 60}, {"z": values(1)}))


def test_a_run_is_read_back(rag: RAG, tmp_path: Path) -> None:
    run, path = {"task": "mine", "k": 3}, tmp_path / "run.jsonl"
    asked = [question("snow?", SAID)]
    whole = evaluate(rag, asked, Results(path, run), k=3, options=ReaderOptions(), sampling=SHORT)
    assert read_run(path) == (run, whole)
    for file, message in (
        (tmp_path / "none.jsonl", "cannot read"),
        (write_rows(tmp_path / "other.jsonl", [{"run": {"task": "qa"}}]), "another task"),
        (write_rows(tmp_path / "rows.jsonl", [{"question": "snow?"}]), "does not hold results"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_run(file)
