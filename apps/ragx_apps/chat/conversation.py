"""A conversation: turns of a question and its replies, kept in the browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ragx.types import Answer, Citation, Message, ReaderName, place

KEPT_TURNS, KEPT_BYTES = 30, 3_000_000
"""Older turns are dropped, and so are those with more text of passages: a browser stores about 5 MB a page, encoded."""
KEPT_SOURCES = 60
"""Passages kept of an answer, and all cited ones."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Kept):
    """A passage that was read."""

    title: str
    place: str
    """The document and the character range."""
    text: str
    cited: list[tuple[int, int, int]] = []
    """Citation number, and start and end of its span in `text`."""
    share: float | None = None
    """Share of the reader's cross-attention, if it has any."""


class Reply(_Kept):
    """What one reader answered."""

    reader: ReaderName
    text: str = ""
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


class Turn(_Kept):
    """A question and its replies: one per reader."""

    question: str
    index: str
    replies: list[Reply] = []


_TURNS = TypeAdapter(list[Turn])


def load_turns(kept: Any) -> list[Turn]:
    """The turns a browser stored; none if it stored something else."""
    try:
        return _TURNS.validate_python(kept)
    except ValidationError:
        return []


def dump_turns(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The last turns, one at least, as JSON values for the browser to store."""
    kept: list[dict[str, Any]] = []
    size = 0
    for turn in reversed(turns[-KEPT_TURNS:]):
        size += sum(len(source.text.encode(errors="replace")) for reply in turn.replies for source in reply.sources)
        if kept and size > KEPT_BYTES:
            break
        kept.insert(0, turn.model_dump(mode="json"))
    return kept


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
        finished=True,
        stopped=answer.finish == "cancelled",
        cut=answer.finish == "length",
        supported=answer.supported or answer.refused,
        sources=sources(answer),
        read=len(answer.hits),
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
        passage = hit.passage
        spans = [
            (citation.number, citation.start - passage.start, citation.end - passage.start)
            for citation in cited.get(passage.id, [])
        ]
        if rank < KEPT_SOURCES or spans:
            location = f"{passage.document}, {place(passage)}"
            found.append(
                Source(
                    title=passage.title or passage.document, place=location, text=passage.text, cited=spans, share=share
                )
            )
    return sorted(found, key=lambda source: min(source.cited, default=(math.inf,))[0])
