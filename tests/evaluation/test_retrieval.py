"""Scores against judgements in each layout, and files in none of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ragx.config import IndexSettings
from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.bootstrap import Estimate
from ragx.evaluation.results import Results
from ragx.evaluation.retrieval import Judgement, evaluate, read_qrels, read_queries
from ragx.index import build_index
from ragx.types import Hit
from tests.helpers.command import RunCommand
from tests.helpers.toy_embedders import WordEmbedder, passages

TEXTS = ["red fox", "blue owl", "green elk", "red owl"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("queries.jsonl", '{"_id": "1", "text": "fox"}\n{"_id": "2", "text": "owl", "metadata": {}}\n'),
        ("queries.jsonl", '{"id": 1, "question": "fox"}\n\n{"id": 2, "question": "owl"}\n'),
        ("queries.tsv", "1\tfox\r\n2\towl\n"),
    ],
)
def test_queries(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_queries(tmp_path / name) == {"1": "fox", "2": "owl"}


@pytest.mark.parametrize(
    "text",
    [
        "1 0 doc0 2\n1 0 doc2 0\n2 Q0 doc1 1\n",
        "query-id\tcorpus-id\tscore\n1\tdoc0\t2\n1\tdoc2\t0\n2\tdoc1\t1\n",
        "1\tdoc0\t2\r\n1\tdoc2\t0\r\n2\tdoc1\t1",
    ],
)
def test_qrels(tmp_path: Path, text: str) -> None:
    (tmp_path / "qrels").write_text(text)
    assert read_qrels(tmp_path / "qrels") == [("1", "doc0", 2), ("1", "doc2", 0), ("2", "doc1", 1)]


def test_files_in_other_layouts_are_refused(tmp_path: Path) -> None:
    for name, text, message in (
        ("a.tsv", "1\tfox\nowl\n", "a.tsv:2 is not an id"),
        ("a.jsonl", '{"id": 1}\n', "a.jsonl:1 has no id or no question"),
        ("b.tsv", "\n", "has no query"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(CorpusError, match=message):
            read_queries(tmp_path / name)
    for text, message in (
        ("1 doc0\n", ":1 is not a judgement"),
        ("1 0 doc0 high\n", ":1 is not"),
        ("", "has no judge"),
    ):
        (tmp_path / "qrels").write_text(text)
        with pytest.raises(CorpusError, match=message):
            read_qrels(tmp_path / "qrels")


def test_a_document_has_the_rank_of_its_best_passage() -> None:
    fox, owl, elk = (Hit(passage, 0.0) for passage in passages(TEXTS[:3]))
    found = {"a": [fox, fox, owl, elk], "b": [elk, owl], "c": []}
    qrels = [
        *(Judgement("a", "doc1", 1), Judgement("a", "doc2", 1), Judgement("b", "doc1", 1)),
        *(Judgement("c", "doc3", 2), Judgement("d", "doc0", 0)),
    ]
    queries = {name: name for name in "abcd"}
    table = evaluate(queries, qrels, {"found": lambda query: found[query]}, Results(None, {}), k=4)
    (row,) = table.rows
    values = [round(cell.value, 4) for cell in row[1:5] if isinstance(cell, Estimate)]
    gains = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3)), 1 / math.log2(3), 0
    precisions = (1 / 2 + 2 / 3) / 2, 1 / 2, 0
    assert values == [round(sum(each) / 3, 4) for each in (gains, (1 / 2, 1 / 2, 0), precisions, (1, 1, 0))]
    assert table.notes[0].startswith("3 queries")
    with pytest.raises(ConfigError, match="no query"):
        evaluate({"d": "d"}, qrels, {}, Results(None, {}), k=4)


def test_the_command_compares_methods(run_command: RunCommand, tmp_path: Path) -> None:
    build_index(passages(TEXTS), tmp_path / "index", WordEmbedder(), IndexSettings(), quiet=True)
    (tmp_path / "queries.tsv").write_text("1\tfox\n2\tgreen elk\n")
    (tmp_path / "qrels.txt").write_text("1 0 doc0 1\n2 0 doc2 1\n")
    files = ("--queries", tmp_path / "queries.tsv", "--qrels", tmp_path / "qrels.txt", "--index", tmp_path / "index")
    run = run_command("eval", "retrieval", *files, "--method", "bm25", "--out", tmp_path / "out.jsonl")
    assert run.code == 0, run.err
    assert run.out.splitlines()[2].startswith("| bm25 | 1.000 (1.000–1.000) | 1.000")
    assert run_command("eval", "retrieval", *files, "--method", "owl").code == 2
