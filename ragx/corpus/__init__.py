"""Files -> documents -> passages with character spans.

sources.py   which files to read, in which order and under which ids
formats.py   which format a file has
reading.py   files -> documents, several at a time
extract/     a module for each format that needs a parser, run in child processes
chunking.py  documents -> passages, without empty and repeated ones
origins.py   the headings and the header of the table above a passage (tables.py), its page
language.py  whether the texts are in English
questions.py questions with their answers and gold passages
"""

from ragx.corpus.chunking import PassageCounts, split_passages, text_key, unique_passages
from ragx.corpus.document import Document, Skipped
from ragx.corpus.reading import read_documents
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
