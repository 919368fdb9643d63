"""A conversation: turns of a question and its replies, kept in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ragx.types import Answer, Citation, Message, ReaderName

KEPT_TURNS = 30
"""Older ones are dropped: a browser keeps some 5 MB for a page."""
SHOWN_SOURCES = 12
"""Of the passages read; cited ones are shown beyond it."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Kept):
    """A passage that was read."""

    title: str
    place: str
    """The document, and the characters of it."""
    text: str
    cited: list[tuple[int, int, int]] = []
    """A citation's number, and where its span starts and ends in `text`."""
    share: float | None = None
    """Of the reader's attention, where it attends."""


class Reply(_Kept):
    """What one reader answered."""

    reader: ReaderName
    text: str = ""
    ahead: int | None = None
    """Waiting questions before this one; None once its turn has come."""
    finished: bool = False
    stopped: bool = False
    sources: list[Source] = []
    """In the order of their share of the attention, or else of retrieval."""
    read: int = 0
    """Passages read, those not in `sources` included."""
    first_token: float = 0.0
    """Seconds."""
    tokens_per_second: float = 0.0
    notes: list[str] = []
    error: str = ""


class Turn(_Kept):
    """A question and its replies: one, or one of each reader that is compared."""

    question: str
    index: str
    replies: list[Reply] = []


_TURNS = TypeAdapter(list[Turn])


def load_turns(kept: Any) -> list[Turn]:
    """The turns a browser kept; none when it kept something else."""
    try:
        return _TURNS.validate_python(kept)
    except ValidationError:
        return []


def dump_turns(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The last turns as plain values, for the browser to keep."""
    return [turn.model_dump(mode="json") for turn in turns[-KEPT_TURNS:]]


def messages(turns: Sequence[Turn], index: str) -> list[Message]:
    """What a follow-up question to `index` builds on: the turns that asked it and got an answer."""
    found = []
    for turn in turns:
        said = next((reply.text for reply in turn.replies if reply.text), None)
        if turn.index == index and said is not None:
            found += [Message("user", turn.question), Message("assistant", said)]
    return found


def whole_reply(reader: ReaderName, answer: Answer) -> Reply:
    """The reply that an answer makes."""
    return Reply(
        reader=reader,
        text=answer.text,
        finished=True,
        stopped=answer.finish == "cancelled",
        sources=sources(answer),
        read=len(answer.hits),
        first_token=answer.timings.first_token,
        tokens_per_second=answer.timings.tokens_per_second,
        notes=answer.notes,
    )


def sources(answer: Answer) -> list[Source]:
    """The passages read, by their share of the attention where there is one: the first of them and all cited ones."""
    cited: dict[str, list[Citation]] = {}
    for citation in answer.citations:
        cited.setdefault(citation.passage_id, []).append(citation)
    shares: list[float | None] = (
        list(answer.attention_shares) if answer.attention_shares is not None else [None] * len(answer.hits)
    )
    ranked = sorted(zip(answer.hits, shares, strict=True), key=lambda pair: -(pair[1] or 0.0))
    found = []
    for rank, (hit, share) in enumerate(ranked):
        passage = hit.passage
        spans = [
            (citation.number, citation.start - passage.start, citation.end - passage.start)
            for citation in cited.get(passage.id, [])
        ]
        if rank < SHOWN_SOURCES or spans:
            place = f"{passage.document}, characters {passage.start}–{passage.end}"
            found.append(
                Source(
                    title=passage.title or passage.document, place=place, text=passage.text, cited=spans, share=share
                )
            )
    return found
