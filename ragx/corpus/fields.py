"""The fields of a row that hold its id and its text, under the names that public corpora give them."""

from __future__ import annotations

from collections.abc import Collection

ID_FIELDS = ("id", "_id", "docid", "doc_id", "passage_id", "pid")
"""`_id` is BEIR's, `docid` TREC's and MIRACL's, `pid` that of MS MARCO."""
TEXT_FIELDS = ("text", "contents")
"""`contents` is Pyserini's and FlashRAG's: the title may be its first line."""
OTHER_TEXT_FIELDS = ("passage", "content", "body", "claim", "passage_text", "document", "article", "abstract")
"""Taken if a row has exactly one of them, and none of `TEXT_FIELDS`."""


def id_field(names: Collection[str]) -> str | None:
    """The field that holds the id."""
    return next((name for name in ID_FIELDS if name in names), None)


def text_field(names: Collection[str]) -> str | None:
    """The field that holds the text; None if there is none, or no telling which."""
    named = next((name for name in TEXT_FIELDS if name in names), None)
    if named:
        return named
    others = [name for name in OTHER_TEXT_FIELDS if name in names]
    return others[0] if len(others) == 1 else None
