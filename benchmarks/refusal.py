"""Refusing: which questions the best score of a reranker tells from those that the hits answer.

python -m benchmarks.refusal --index DIR --questions FILE [--others FILE] [--fit]

Questions whose hits hold an answer are asked again without these hits, which leaves near misses, often of the same
article. `--others` are questions about something else. `--fit` prints a calibration for the reranker's config.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.tables import markdown
from ragx.corpus.document import normalise
from ragx.corpus.questions import Question, parse_questions
from ragx.evaluation.metrics import contains
from ragx.evaluation.questions import spread
from ragx.retrieval import Retriever, open_index
from ragx.retrieval.rerankers import Reranker, open_reranker
from ragx.retrieval.rerankers.calibration import Calibration, fit
from ragx.types import Hit

ANSWERED, WITHOUT, OTHERS = "answer among the hits", "the same without these hits", "questions about something else"
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.5)
Scores = dict[str, list[np.ndarray]]


def scores(
    retriever: Retriever, reranker: Reranker, questions: Sequence[Question], others: Sequence[Question]
) -> Scores:
    """By kind of question, the scores of each question's hits."""
    found: Scores = {ANSWERED: [], WITHOUT: [], OTHERS: []}

    def score(question: Question, hits: Sequence[Hit]) -> np.ndarray:
        return np.asarray(reranker.scores(normalise(question.text), [hit.passage for hit in hits[: reranker.depth]]))

    for question in tqdm(questions, unit=" questions"):
        hits = retriever.search(question.text, 3 * reranker.depth)
        without = [hit for hit in hits if not contains(hit.passage.text, question.answers)]
        if len(without) < len(hits) and without:
            found[ANSWERED].append(score(question, hits))
            found[WITHOUT].append(score(question, without))
    for question in tqdm(others, unit=" questions"):
        hits = retriever.search(question.text, reranker.depth)
        if not any(contains(hit.passage.text, question.answers) for hit in hits):
            found[OTHERS].append(score(question, hits))
    return {kind: each for kind, each in found.items() if each}


def table(found: Scores, calibration: Calibration) -> str:
    """The share of each kind that is refused below each likelihood."""
    return markdown(
        ("questions", "number", *(f"refused below {each:g} (%)" for each in THRESHOLDS)), _rows(found, calibration)
    )


def _rows(found: Scores, calibration: Calibration) -> Iterator[list[object]]:
    for kind, each in found.items():
        likelihoods = np.array([calibration.likelihood(scores) for scores in each])
        yield [kind, len(each), *(f"{100 * (likelihoods < threshold).mean():.1f}" for threshold in THRESHOLDS)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--others", type=Path)
    parser.add_argument("--rerank", default="auto")
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    retriever = open_index(options.index).retriever
    reranker = open_reranker(options.rerank, embedder=retriever.index.manifest.embedder.name)
    if reranker is None:
        parser.error("there is no reranker for this index: name one with --rerank")
    questions, others = (
        spread(list(parse_questions(path)), options.limit) if path else []
        for path in (options.questions, options.others)
    )
    found = scores(retriever, reranker, questions, others)
    calibration = reranker.calibration
    if options.fit or calibration is None:
        pairs = [(float(each.max()), kind == ANSWERED) for kind, values in found.items() for each in values]
        calibration = fit(*zip(*pairs, strict=True))
        print(f"calibration: {calibration.model_dump_json()}\n")
    print(table(found, calibration))


if __name__ == "__main__":
    main()
