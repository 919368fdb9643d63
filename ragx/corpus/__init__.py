"""Files -> documents -> passages with character spans.

`sources` dispatches to one reader a format; `passages` cuts documents and drops empty and repeated passages.
"""

from ragx.corpus.chunking import PassageCounts, split_passages, text_key, unique_passages
from ragx.corpus.document import Document, Skipped
from ragx.corpus.sources import read_documents
from ragx.corpus.version import parsing_version

__all__ = [
    "Document",
    "PassageCounts",
    "Skipped",
    "parsing_version",
    "read_documents",
    "split_passages",
    "text_key",
    "unique_passages",
]
