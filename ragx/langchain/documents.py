"""LangChain's documents and ragx's passages."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

from langchain_core.documents import Document

from ragx.errors import ConfigError
from ragx.types import Passage
from ragx.util.text import without_surrogates


def to_document(passage: Passage) -> Document:
    """A passage as a document: a passage of a file or row with its origin and metadata, others with what was added."""
    metadata: dict[str, Any] = json.loads(passage.metadata) if passage.metadata else {}
    if not metadata or passage.id == f"{passage.document}#{passage.position}":
        metadata = {
            "title": passage.title,
            "source": passage.source,
            "document": passage.document,
            "position": passage.position,
            "start": passage.start,
            "end": passage.end,
            **({"headings": passage.headings} if passage.headings else {}),
            **({"page": passage.page} if passage.page else {}),
            **metadata,
        }
    return Document(id=passage.id, page_content=passage.text, metadata=metadata)


def to_passage(document: Document, id: str, *, keep_metadata: bool = False) -> Passage:
    """A document as a passage with an id.

    `title`, `source`, `document`, `position` and `start` (or `start_index`, as text splitters call it) are taken from
    the metadata if present.

    Raises:
        ConfigError: with `keep_metadata`, where the metadata is not JSON.
    """
    metadata = document.metadata
    text = document.page_content
    start = _number(metadata, "start", "start_index")
    return Passage(
        id=id,
        document=_text(metadata, "document") or id,
        title=_text(metadata, "title"),
        text=text,
        position=_number(metadata, "position"),
        start=start,
        end=start + len(text),
        source=_text(metadata, "source"),
        metadata=_json(metadata, id) if keep_metadata else "",
    )


def _text(metadata: dict[str, Any], name: str) -> str:
    value = metadata.get(name)
    return without_surrogates(value) if isinstance(value, str) else ""


def _number(metadata: dict[str, Any], *names: str) -> int:
    return next((value for name in names if _fits(value := metadata.get(name))), 0)


def _fits(value: Any) -> TypeGuard[int]:
    """Whether it is a number that an index's 64 bits hold, and a text's length more."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62


def _json(metadata: dict[str, Any], id: str) -> str:
    try:
        return json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the metadata of document {id!r} is not JSON: {error}") from None
