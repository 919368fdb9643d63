"""Files -> documents -> passages with character spans.

`sources` dispatches to one reader a format; `passages` cuts documents and drops empty and repeated passages.
"""

from ragx.corpus.document import Document, Skipped
from ragx.corpus.passages import PassageCounts, split_passages, unique_passages
from ragx.corpus.sources import read_documents

__all__ = [
    "Document",
    "PassageCounts",
    "Skipped",
    "read_documents",
    "split_passages",
    "unique_passages",
]
