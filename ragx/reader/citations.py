"""Citations: verbatim spans of passages that support an answer, in any language."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

from ragx.index.words import spaced
from ragx.reader.task import INSTRUCTION
from ragx.types import Citation, Hit, embedded_text
from ragx.util.sentences import sentence_spans
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import tantivy

MIN_SUPPORT = 0.5
"""Minimum share of an answer sentence's word weight that a cited span contains."""
QUESTION_WEIGHT = 0.25
"""Weight of the question's words when choosing among spans that support a sentence."""

_MARK = re.compile(r" \[\d+\]")
_NUMBER = re.compile(r"(?<![\[\d])\d+(?:[.,]\d+)*")
_LIST_MARK = re.compile(r"^\s*\d+[.)]\s")
_NAME = re.compile(r"(?<=\w )[A-Z]\w+")
"""A capitalised word within an English sentence."""
_NEGATION = re.compile(r"\b(?:no|not|never|none|nor|neither|without|cannot)\b|n['’]t\b", re.IGNORECASE)
_SENTENCE_BEGINS = re.compile(r"[.!?…][\"'”’)\]]*(\s+[^\w\s]*)$")
_CLAUSE_END = re.compile(r"[,;:]\s|[،؛，；：、]")


class Citer:
    """Cites the sentences of one answer, as they come."""

    def __init__(self, question: str, hits: Sequence[Hit]) -> None:
        """`hits`: the passages read, best first."""
        self._spans = [(hit, start, end) for hit in hits for start, end in sentence_spans(hit.passage.text)]
        self._stems = [_stems(hit.passage.text[start:end]) for hit, start, end in self._spans]
        self._question_numbers = _numbers(question)
        self._weight = _inverse_document_frequency(self._stems)
        question_stems = _stems(question)
        self._about_question = [_share(question_stems, stems, self._weight) for stems in self._stems]
        self._ignored = _stems(INSTRUCTION)
        self._cited: dict[int, Citation] = {}

    def cite(self, sentence: str, at: int | None) -> list[int]:
        """The numbers to show for a sentence: those of the citations that support it, ascending.

        `at`: the offset in the answer at which they belong; None: they are not shown.
        """
        whole = self._best_span(sentence)
        found = [whole] if whole else map(self._best_span, _CLAUSE_END.split(sentence))
        numbers = []
        for index, support in filter(None, found):
            if index not in self._cited:
                self._cited[index] = _citation(len(self._cited) + 1, *self._spans[index], support)
            citation = self._cited[index]
            if at is not None and at not in citation.marks:
                citation.marks.append(at)
                numbers.append(citation.number)
        return sorted(numbers)

    @property
    def citations(self) -> list[Citation]:
        """Those of all sentences so far, by number."""
        return [*self._cited.values()]

    def _best_span(self, text: str) -> tuple[int, float] | None:
        words = _stems(text) - self._ignored
        support = [_share(words, stems, self._weight) for stems in self._stems]
        candidates = [
            index
            for index, share in enumerate(support)
            if share >= MIN_SUPPORT and self._agrees(text, *self._spans[index])
        ]
        best = max(
            candidates,
            key=lambda index: support[index] + QUESTION_WEIGHT * self._about_question[index],
            default=None,
        )
        return None if best is None else (best, support[best])

    def _agrees(self, text: str, hit: Hit, start: int, end: int) -> bool:
        """Whether numbers, names and negation of a sentence are also in the span.

        Names, and numbers of the question, may stand around it.
        """
        span, around = hit.passage.text[start:end], embedded_text(hit.passage)
        numbers = _numbers(_LIST_MARK.sub("", text))
        names = _stems(" ".join(_NAME.findall(text)))
        return (
            numbers - self._question_numbers <= _numbers(span)
            and numbers <= _numbers(around)
            and (not names or names <= _stems(around))
            and (not _NEGATION.search(text) or _NEGATION.search(span) is not None)
        )


def without_marks(text: str) -> str:
    """The text of an answer without `[1]` and the like."""
    return _MARK.sub("", text)


class Marker:
    """Puts `[1]` after each sentence of an answer that a passage supports, while the answer grows."""

    def __init__(self, question: str, hits: Sequence[Hit]) -> None:
        """`hits`: the passages read, best first."""
        self._question, self._hits = question, hits
        self._text, self._start, self._shown = "", 0, 0

    @cached_property
    def _citer(self) -> Citer:  # takes some milliseconds, for which the first token does not wait
        return Citer(self._question, self._hits)

    def add(self, piece: str) -> str:
        """The next piece of the answer, with the marks of the sentences that end before it.

        What may begin the next sentence, such as a quotation mark, comes with the piece after it.
        """
        self._text += piece
        *ended, last = [*sentence_spans(self._text[self._start :])] or [(0, 0)]
        shown = "".join(self._up_to(first, end) for first, end in ended)
        if ended:
            self._start += last[0]
        begun = _SENTENCE_BEGINS.search(self._text, self._start)
        return shown + self._rest(begun.start(1) if begun else len(self._text))

    def end(self) -> str:
        """What is left of the answer, with the marks of the last sentence."""
        spans = [*sentence_spans(self._text[self._start :])]
        return "".join(self._up_to(first, end) for first, end in spans) + self._rest(len(self._text))

    @property
    def citations(self) -> list[Citation]:
        """Those of the answer, by number."""
        return self._citer.citations

    def _up_to(self, first: int, end: int) -> str:
        """The text up to the end of a sentence, and its marks."""
        sentence = self._text[self._start + first : self._start + end]
        next_begins = _SENTENCE_BEGINS.search(sentence)
        text = self._rest(self._start + (first + next_begins.start(1) if next_begins else end))
        is_code = self._text[: self._shown].count("```") % 2 or sentence.endswith(("|", "`"))
        numbers = self._citer.cite(sentence, None if is_code else self._shown)  # a mark would break tables and code
        return text + "".join(f" [{number}]" for number in numbers)

    def _rest(self, end: int) -> str:
        """The text up to `end` that has not been shown."""
        begin, self._shown = self._shown, max(self._shown, end)
        return self._text[begin : self._shown]


def cite(answer: str, question: str, hits: Sequence[Hit]) -> list[Citation]:
    """For each sentence of the answer, cite the sentence of the hits that contains most of its words.

    Support is the share of the answer sentence's distinct word stems that the span contains, weighted by inverse
    document frequency. In scripts without spaces, pairs of characters serve as words. English stop words do not count,
    nor do words of the prompt's instruction, which decoders often repeat. Among supporting spans, one that also
    contains the question's words is preferred, then the better hit's. No span supports a sentence with numbers, names
    (capitalised words, by their stems) or a negation that it lacks. A sentence that no span supports (`MIN_SUPPORT`) is
    matched clause by clause, or gets no citation. Spans are verbatim; each is cited once.
    """
    marker = Marker(question, hits)
    marker.add(answer)
    marker.end()
    return marker.citations


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


def _numbers(text: str) -> frozenset[str]:
    return frozenset(number.replace(",", "") for number in _NUMBER.findall(text))


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
