"""read: passages and a question become a cited answer, streamed in pieces. Every answer is made here."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ragx.config import ReaderOptions, SamplingParams
from ragx.reader.base import PreparedPrompt, Reader
from ragx.reader.citations import Marker
from ragx.reader.loops import LoopDetector
from ragx.reader.prompt import REFUSAL
from ragx.reader.task import ANSWER, Task
from ragx.retrieval import SearchResults
from ragx.retrieval.rerankers import close_to_best
from ragx.types import Answer, Hit, Message, Timings
from ragx.util.tracing import record

if TYPE_CHECKING:
    from ragx.cepe.store import OnEncoded

NO_HITS = "no passage of the index matches the question; the answer comes from the decoder alone"

REFUSED = "the chance that a passage holds the answer is {:.1%}: --refuse-below 0 answers anyway"

SPENT = "the answer reached its maximum length before its text began: raise --max-new-tokens"
"""Models that think first may do so."""

LOOPED = "the answer began to repeat itself and was ended: --no-stop-loops lets it go on"

T = TypeVar("T")


class _Cancelled(Exception):
    """The answer was cancelled while passages were encoded."""


def read(
    reader: Reader,
    question: str,
    hits: Sequence[Hit],
    *,
    options: ReaderOptions,
    sampling: SamplingParams,
    history: Sequence[Message] = (),
    cancel: threading.Event | None = None,
    task: Task = ANSWER,
    on_encoded: OnEncoded | None = None,
) -> Generator[str, None, Answer]:
    """Yield the pieces of the answer as they are decoded and return the answer; joined, the pieces are its text.

    With `options.marks`, they are its `marked_text`. Closing the generator, or setting `cancel`, ends decoding before
    the next token; `cancel` also ends encoding, after a second's work for two CPU cores.

    If the hits are unlikely to hold the answer (`options.refuse_below`), the answer says so. Follow-up questions, for
    which the likelihood is unreliable, and answers that must match `sampling.json_schema` are never refused.

    Args:
        reader: reads the passages; `options.reader` is ignored.
        question: the question.
        hits: the passages to read, best first, unless `options.within` leaves them out.
        options: how to read them.
        sampling: how to decode.
        history: the conversation before the question.
        cancel: set it, in another thread, to end the answer early.
        task: what to do with the passages.
        on_encoded: called as passages are encoded, with the number of those done and of all that have to be.

    Raises:
        ConfigError: the question does not fit into the decoder's window.
    """
    hits = plausible(reader, hits, options)
    likelihood = hits.likelihood
    if likelihood is not None and likelihood < options.refuse_below and not history and not sampling.json_schema:
        yield REFUSAL
        return replace(_unread(REFUSAL, hits, sampling), notes=[REFUSED.format(likelihood)], refused=True)
    start = time.perf_counter()
    passages = [hit.passage for hit in hits]

    def report(done: int, total: int) -> None:
        if cancel is not None and cancel.is_set():
            raise _Cancelled
        if on_encoded:
            on_encoded(done, total)

    try:
        prepared = reader.prepare(
            question,
            passages,
            prompt_passages=options.prompt_passages,
            sampling=sampling,
            history=history,
            scores=[hit.score for hit in hits],
            task=task,
            on_encoded=report,
        )
    except _Cancelled:
        return replace(_unread("", hits, sampling), finish="cancelled")
    encoded = time.perf_counter()
    if prepared.context is not None:
        prepared.context.record_attention = options.attention_shares
    text = ""
    times: list[float] = []
    marker, loops = Marker(question, hits), LoopDetector()
    looped = False
    with contextlib.closing(reader.stream(prepared, sampling, cancel)) as stream:
        for piece in trimmed(_timed(stream, times)):
            text += piece
            marked = marker.add(piece)
            yield marked if options.marks else piece
            looped = sampling.stop_loops and not sampling.json_schema and loops.add(piece)
            if looped:
                break
    last_marks = marker.end()
    if options.marks and last_marks:
        yield last_marks
    end = time.perf_counter()
    finish = "loop" if looped else stream.finish
    first = times[0] if times else end
    record("ragx.encode", start, encoded, passages=len(hits), context_tokens=prepared.context_tokens)
    record("ragx.prefill", encoded, first, prompt_tokens=len(prepared.prompt.ids))
    record("ragx.decode", first, end, answer_tokens=stream.tokens, finish=finish)
    notes = [NO_HITS] if task.instruction and not hits else []
    notes += prepared.notes
    if not text and finish == "length":
        notes.append(SPENT)
    if looped:
        notes.append(LOOPED)
    return Answer(
        text,
        marker.citations,
        hits,
        Timings(
            retrieve=0.0,
            encode=encoded - start,
            first_token=first - start,
            total=end - start,
            tokens_per_second=(len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0,
        ),
        attention_shares=_attention_shares(prepared, len(hits)),
        notes=notes,
        finish=finish,
        prompt_tokens=len(prepared.prompt.ids) or stream.prompt_tokens or 0,
        answer_tokens=stream.tokens,
        context_tokens=prepared.context_tokens,
        logprobs=stream.logprobs,
        likelihood=likelihood,
    )


def plausible(reader: Reader, hits: Sequence[Hit], options: ReaderOptions) -> SearchResults[Hit]:
    """The hits that are read: those whose reranker's score is close enough to the best one, see `options.within`."""
    return close_to_best(hits, reader.within if options.within is None else options.within)


def _attention_shares(prepared: PreparedPrompt, hits: int) -> list[float] | None:
    """Those of the hits, without examples and earlier turns, which come after them."""
    shares = prepared.context.attention_shares() if prepared.context is not None else None
    if shares is None:
        return None
    in_prompt_alone = [0.0] * prepared.first_encoded
    return [*in_prompt_alone, *shares[0].tolist()][:hits]


def returned(generator: Generator[object, None, T]) -> T:
    """What a generator returns once it is exhausted."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            value: T = end.value
            return value


def trimmed(pieces: Iterator[str]) -> Iterator[str]:
    """The non-empty pieces, without the white space around the whole text."""
    started, space = False, ""
    for piece in pieces:
        text = space + piece if started else piece.lstrip()
        if ready := text.rstrip():
            started = True
            yield ready
        space = text[len(ready) :]


def _unread(text: str, hits: SearchResults[Hit], sampling: SamplingParams) -> Answer:
    """An answer for which nothing is decoded."""
    return Answer(
        text,
        [],
        hits,
        Timings(retrieve=0.0, encode=0.0, first_token=0.0, total=0.0, tokens_per_second=0.0),
        logprobs=None if sampling.top_logprobs is None else [],
        likelihood=hits.likelihood,
    )


def _timed(pieces: Iterator[str], times: list[float]) -> Iterator[str]:
    for piece in pieces:
        times.append(time.perf_counter())
        yield piece
