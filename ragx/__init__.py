"""ragx: answer questions over a large corpus by reading many passages cheaply.

>>> from ragx import RAG, build_index
>>> build_index(["~/notes"], "my-index")
>>> with RAG.from_index("my-index") as rag:
...     print(rag.ask("What is albedo?").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ragx.config import SamplingParams
from ragx.types import Answer, Citation, Hit, Message, Passage

if TYPE_CHECKING:
    from ragx.index import Index
    from ragx.indexing import build_index, update_index
    from ragx.rag import RAG

__version__ = "0.1.0"
__all__ = [
    "RAG",
    "Answer",
    "Citation",
    "Hit",
    "Index",
    "Message",
    "Passage",
    "SamplingParams",
    "__version__",
    "build_index",
    "update_index",
]

_LAZY = {"RAG": "ragx.rag", "Index": "ragx.index", "build_index": "ragx.indexing", "update_index": "ragx.indexing"}
"""Loaded on first use: they pull in NumPy or torch, and `import ragx` and `ragx --help` must stay fast."""


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ragx' has no attribute {name!r}")
