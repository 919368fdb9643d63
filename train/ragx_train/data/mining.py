"""Passages that a reranker learns to order: those that answer a question, and hard negatives from hybrid search."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ragx.config import Chunking
from ragx.corpus.chunking import PassageCounts, split_document, text_key, unique_passages
from ragx.corpus.document import Document, normalise
from ragx.corpus.questions import Question
from ragx.evaluation.metrics import contains_normalised
from ragx.evaluation.metrics import normalise as normalise_answer
from ragx.index.index import Index
from ragx.retrieval.retriever import Retriever
from ragx.types import Embedder, Passage, embedded_text

NEAR = 8
"""Passages of the same article that are kept for a question."""


@dataclass(frozen=True)
class RankedQuestion:
    """A question, and rows of the index."""

    question: str
    held_out: bool
    """For validation."""
    positives: list[int]
    """Gold passages with an answer; for a question with several gold paragraphs, all of their passages."""
    ranking: list[int]
    """What hybrid search finds, best first."""
    answered: list[bool]
    """For each of `ranking`, whether its text contains an answer."""
    negatives: list[int]
    """Those of `ranking` that are not positive, and in which neither text nor title contains an answer."""
    near: list[int]
    """Such passages of the same article that are not in `ranking`."""


def question_passages(questions: Iterable[Question], chunking: Chunking) -> Iterator[Passage]:
    """The passages of all paragraphs of the questions, each text once."""
    paragraphs = {each.id: each for question in questions for each in (*question.gold, *question.others)}
    split = (passage for paragraph in paragraphs.values() for passage in _split(paragraph, chunking))
    return unique_passages(split, PassageCounts())


class Miner:
    """Searches an index of `question_passages` for positives and negatives."""

    def __init__(self, index: Index, embedder: Embedder, chunking: Chunking, candidates: int) -> None:
        self._retriever = Retriever(index, embedder)
        self._chunking = chunking
        self._candidates = candidates
        self._rows: dict[str, int] = {}
        self._texts: list[str] = []
        self._titled: list[str] = []
        self._articles: dict[str, list[int]] = defaultdict(list)
        for row, passage in enumerate(index.passages(range(len(index)))):
            self._rows[text_key(passage.text)] = row
            self._texts.append(normalise_answer(passage.text))
            self._titled.append(normalise_answer(embedded_text(passage)))
            if passage.title:
                self._articles[passage.title].append(row)

    def mine(self, question: Question, *, held_out: bool) -> RankedQuestion | None:
        """The question with its passages; None if it has no positive or no negative.

        A passage that is more than half answer is not a positive: finding it teaches nothing.
        """
        gold = [self._rows[key] for each in question.gold for key in self._keys(each) if key in self._rows]
        answered = [row for row in gold if contains_normalised(self._texts[row], question.answers)]
        longest = max((len(normalise_answer(answer)) for answer in question.answers), default=0)
        positives = (
            gold if len(question.gold) > 1 else [row for row in answered if 2 * longest <= len(self._texts[row])]
        )
        if not positives:
            return None
        hits = self._retriever.search(question.text, self._candidates)
        ranking = [self._rows[text_key(hit.passage.text)] for hit in hits]
        taken = set(positives)

        def is_negative(row: int) -> bool:
            return row not in taken and not contains_normalised(self._titled[row], question.answers)

        negatives = [row for row in ranking if is_negative(row)]
        taken.update(ranking)
        article = self._articles.get(question.gold[0].title, [])
        closest = sorted(article, key=lambda row: abs(row - positives[0]))[: 4 * NEAR]
        near = [row for row in closest if is_negative(row)][:NEAR]
        if not negatives and not near:
            return None
        found = [contains_normalised(self._texts[row], question.answers) for row in ranking]
        return RankedQuestion(question.text, held_out, positives, ranking, found, negatives, near)

    def _keys(self, paragraph: Passage) -> list[str]:
        return [text_key(passage.text) for passage in _split(paragraph, self._chunking)]


def _split(paragraph: Passage, chunking: Chunking) -> Iterator[Passage]:
    document = Document(paragraph.id, paragraph.title, normalise(paragraph.text), source="")
    return split_document(document, chunking)
