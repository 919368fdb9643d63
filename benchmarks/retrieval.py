"""Recall of dense, BM25 and hybrid retrieval on question sets that name their gold passages.

The data is in the folder RAGX_DATA, by default `../shared/data` beside the repository; its README describes the files.
"""

from __future__ import annotations

import csv
import os
import tempfile
from pathlib import Path
from typing import get_args

import ir_measures
from ir_measures import R

from benchmarks import sample
from benchmarks.tables import markdown
from ragx.config import Chunking, IndexSettings
from ragx.corpus import Document, read_documents, split_passages
from ragx.index import Index, build_index
from ragx.retrieval import Retriever, open_embedder
from ragx.types import SearchMethod
from ragx.util.jsonlines import load_objects

DATA = Path(os.environ.get("RAGX_DATA") or sample.ROOT.parent / "shared" / "data")
MODEL = "all-minilm-l6-v2"
QUESTIONS = 1000
"""The first questions of each set."""


def run() -> str:
    """A Markdown table."""
    if not DATA.is_dir():
        return f"skipped: no data at {DATA}"
    embedder = open_embedder(MODEL)
    rows = []
    for name, (corpus, questions, gold) in _sets().items():
        with tempfile.TemporaryDirectory() as out:
            settings = IndexSettings(chunking=Chunking(unit="document"))
            documents = (entry for entry in read_documents([corpus]) if isinstance(entry, Document))
            passages = split_passages(documents, settings.chunking)
            build_index(passages, Path(out), embedder, settings)
            retriever = Retriever(Index.open(Path(out)), embedder)
            for method in get_args(SearchMethod):
                rankings = {
                    key: {hit.passage.document: hit.score for hit in retriever.search(question, 60, method)}
                    for key, question in questions.items()
                }
                scores = ir_measures.calc_aggregate([R @ 10, R @ 60], gold, rankings)
                rows.append((name, len(questions), method, f"{scores[R @ 10]:.3f}", f"{scores[R @ 60]:.3f}"))
    return markdown(("set", "questions", "retriever", "recall@10", "recall@60"), rows)


def _sets() -> dict[str, tuple[Path, dict[str, str], dict[str, dict[str, int]]]]:
    """By name: the corpus, the questions by id, and the grades of their gold passages."""
    squad = _rows(DATA / "eval" / "squad_dev_a.jsonl.xz")[:QUESTIONS]
    sets = {
        "SQuAD dev": (
            DATA / "corpora" / "squad_dev.jsonl.xz",
            {row["id"]: row["question"] for row in squad},
            {row["id"]: {row["passage_id"]: 1} for row in squad},
        )
    }
    for name in ("cranfield", "cisi"):
        gold: dict[str, dict[str, int]] = {}
        with (DATA / "eval" / f"{name}_qrels.tsv").open() as file:
            for query, passage, grade in csv.reader(file, delimiter="\t"):
                if grade.isdigit() and int(grade) > 0:
                    gold.setdefault(query, {})[passage] = int(grade)
        rows = _rows(DATA / "eval" / f"{name}_queries.jsonl.xz")
        questions = {row["id"]: row["question"] for row in rows if row["id"] in gold}
        sets[name] = (DATA / "corpora" / f"{name}.jsonl.xz", questions, gold)
    return sets


def _rows(path: Path) -> list[dict[str, str]]:
    return [{**row, "id": str(row["id"])} for _, row in load_objects(path)]
