"""Citations: verbatim spans of passages that support an answer, in any language."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from ragx.index.lexical import spaced
from ragx.reader.task import INSTRUCTION
from ragx.types import Citation, Hit
from ragx.util.sentences import sentence_spans
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import tantivy

MIN_SUPPORT = 0.5
"""Minimum share of an answer sentence's word weight that a cited span contains."""
QUESTION_WEIGHT = 0.25
"""Weight of the question's words when choosing among spans that support a sentence."""

_CLAUSE_END = re.compile(r"[,;:]\s|[،؛，；：、]")


def cite(answer: str, question: str, hits: Sequence[Hit]) -> list[Citation]:
    """For each sentence of the answer, cite the sentence of the hits that contains most of its words.

    Support is the share of the answer sentence's distinct word stems that the span contains, weighted by inverse
    document frequency. In scripts without spaces, pairs of characters serve as words. English stop words do not count,
    nor do words of the prompt's instruction, which decoders often repeat. Among supporting spans, one that also
    contains the question's words is preferred, then the better hit's. A sentence that no span supports (`MIN_SUPPORT`)
    is matched clause by clause, or gets no citation. Spans are verbatim; each is cited once.
    """
    spans = [(hit, start, end) for hit in hits for start, end in sentence_spans(hit.passage.text)]
    span_stems = [_stems(hit.passage.text[start:end]) for hit, start, end in spans]
    weight = _inverse_document_frequency(span_stems)
    question_stems, ignored = _stems(question), _stems(INSTRUCTION)
    question_overlap = [_share(question_stems, stems, weight) for stems in span_stems]

    def best_span(text: str) -> tuple[int, float] | None:
        words = _stems(text) - ignored
        support = [_share(words, stems, weight) for stems in span_stems]
        candidates = [index for index, share in enumerate(support) if share >= MIN_SUPPORT]
        best = max(
            candidates, key=lambda index: support[index] + QUESTION_WEIGHT * question_overlap[index], default=None
        )
        return None if best is None else (best, support[best])

    support_of: dict[int, float] = {}
    for first, last in sentence_spans(answer):
        sentence = answer[first:last]
        whole = best_span(sentence)
        for part in [whole] if whole else map(best_span, _CLAUSE_END.split(sentence)):
            if part:
                support_of.setdefault(*part)
    return [_citation(number, *spans[index], support_of[index]) for number, index in enumerate(support_of, start=1)]


def _citation(number: int, hit: Hit, start: int, end: int, support: float) -> Citation:
    passage = hit.passage
    return Citation(
        number=number,
        passage_id=passage.id,
        document=passage.document,
        title=passage.title,
        source=passage.source,
        start=passage.start + start,
        end=passage.start + end,
        text=passage.text[start:end],
        score=round(support, 4),
        page=passage.page and passage.page + passage.text.count("\f", 0, start),
    )


def _stems(text: str) -> frozenset[str]:
    return frozenset(_analyzer().analyze(spaced(without_surrogates(text), unigrams=False)))


@cache
def _analyzer() -> tantivy.TextAnalyzer:
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    words = TextAnalyzerBuilder(Tokenizer.regex(r"\w+(?:[.,]\d+)*")).filter(Filter.lowercase())
    return words.filter(Filter.stopword("english")).filter(Filter.stemmer("english")).build()


def _share(wanted: frozenset[str], present: frozenset[str], weight: Callable[[str], float]) -> float:
    total = sum(weight(stem) for stem in wanted)
    return sum(weight(stem) for stem in wanted & present) / total if total else 0.0


def _inverse_document_frequency(spans: Sequence[frozenset[str]]) -> Callable[[str], float]:
    counts = Counter(stem for span in spans for stem in span)
    floor = 0.1  # stems in every span still count a little; otherwise a single span could support nothing
    return lambda stem: floor + math.log((1 + len(spans)) / (1 + counts[stem]))
