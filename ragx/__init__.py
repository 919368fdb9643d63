"""ragx: answer questions over a large corpus by reading many passages cheaply.

>>> from ragx import RAG
>>> answer = RAG.from_index("my-index").ask("What is albedo?")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragx.types import Answer, Citation, Hit, Passage

if TYPE_CHECKING:
    from ragx.rag import RAG

__version__ = "0.1.0"
__all__ = ["RAG", "Answer", "Citation", "Hit", "Passage", "__version__"]


def __getattr__(name: str) -> object:
    # RAG pulls in torch: loaded on first use, so that `import ragx` and `ragx --help` stay fast.
    if name == "RAG":
        from ragx.rag import RAG

        return RAG
    raise AttributeError(f"module 'ragx' has no attribute {name!r}")
