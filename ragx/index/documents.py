"""The documents of an opened index."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ragx.index.index import Index


@dataclass(slots=True)
class IndexedDocument:
    """A document with passages in an index."""

    id: str
    title: str
    source: str
    passages: int = 0
    metadata: dict[str, object] = field(default_factory=dict)


def list_documents(index: Index) -> list[IndexedDocument]:
    """The documents of an index, in the order of their first passages."""
    documents: dict[str, IndexedDocument] = {}
    for passage in index.live_passages():
        document = documents.get(passage.document)
        if document is None:
            metadata = json.loads(passage.metadata) if passage.metadata else {}
            document = IndexedDocument(passage.document, passage.title, passage.source, 0, metadata)
            documents[passage.document] = document
        document.passages += 1
    return list(documents.values())
