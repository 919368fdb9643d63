"""A conversation: turns of a question and its replies, kept in the browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ragx.types import Answer, Citation, Hit, Message, ReaderName, place

KEPT_SOURCES = 60
"""Passages kept of an answer, and all cited ones."""


class Kept(BaseModel):
    """What a browser stores."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Kept):
    """A passage that was read."""

    id: str
    """Of the passage."""
    title: str
    place: str
    """The document and the page or character range."""
    text: str
    page: int = 0
    """The page of a PDF file on which it begins, from 1; 0 where it is in no such file."""
    cited: list[tuple[int, int, int]] = []
    """Citation number, and start and end of its span in `text`."""
    share: float | None = None
    """Share of the reader's cross-attention, if it has any."""


class Reply(Kept):
    """What one reader answered."""

    reader: ReaderName
    text: str = ""
    """While it grows, with marks such as `[1]`."""
    marks: list[tuple[int, int]] = []
    """Offsets in the finished `text`, ascending, and the citations whose numbers belong there."""
    ahead: int | None = None
    """Waiting questions before this one; None once its turn has come."""
    finished: bool = False
    stopped: bool = False
    cut: bool = False
    """It reached the maximum length."""
    supported: bool = True
    """A passage supports it, or it says that none does."""
    sources: list[Source] = []
    """Cited ones first, by number; then by attention share if there is one, otherwise by retrieval rank."""
    read: int = 0
    """Passages read, including those not in `sources`."""
    first_token: float = 0.0
    """Seconds."""
    tokens_per_second: float = 0.0
    notes: list[str] = []
    error: str = ""
    rating: Literal["", "good", "bad"] = ""
    """What the visitor thinks of it."""


class Turn(Kept):
    """A question and its replies: one per reader."""

    question: str
    index: str
    replies: list[Reply] = []


def messages(turns: Sequence[Turn], index: str) -> list[Message]:
    """The history of a follow-up question to `index`: its answered turns."""
    found = []
    for turn in turns:
        said = next((reply.text for reply in turn.replies if reply.text), None)
        if turn.index == index and said is not None:
            found += [Message("user", turn.question), Message("assistant", said)]
    return found


def whole_reply(reader: ReaderName, answer: Answer) -> Reply:
    """The reply for a complete answer."""
    return Reply(
        reader=reader,
        text=answer.text,
        marks=answer.marks,
        finished=True,
        stopped=answer.finish == "cancelled",
        cut=answer.finish == "length",
        supported=answer.supported or answer.refused,
        sources=sources(answer),
        read=0 if answer.refused else len(answer.hits),
        first_token=answer.timings.first_token,
        tokens_per_second=answer.timings.tokens_per_second,
        notes=answer.notes,
    )


def sources(answer: Answer) -> list[Source]:
    """The cited passages by number, then the top ones by attention share, or by rank if there is none."""
    cited: dict[str, list[Citation]] = {}
    for citation in answer.citations:
        cited.setdefault(citation.passage_id, []).append(citation)
    shares: list[float | None] = (
        list(answer.attention_shares) if answer.attention_shares is not None else [None] * len(answer.hits)
    )
    ranked = sorted(zip(answer.hits, shares, strict=True), key=lambda pair: -(pair[1] or 0.0))
    found = []
    for rank, (hit, share) in enumerate(ranked):
        spans = [
            (citation.number, citation.start - hit.passage.start, citation.end - hit.passage.start)
            for citation in cited.get(hit.passage.id, [])
        ]
        if rank < KEPT_SOURCES or spans:
            found.append(source(hit).model_copy(update={"cited": spans, "share": share}))
    return sorted(found, key=lambda source: min(source.cited, default=(math.inf,))[0])


def source(hit: Hit) -> Source:
    """A passage that was found."""
    passage = hit.passage
    is_pdf = passage.source.lower().endswith(".pdf")
    return Source(
        id=passage.id,
        title=passage.title or passage.document,
        place=f"{passage.document}, {place(passage)}",
        text=passage.text,
        page=passage.page if is_pdf else 0,
    )
