"""Question -> hits.

embedder.py   TextEmbedder: passages and questions to vectors
tokenizer.py  makes a tokenizer read control strings as plain text
retriever.py  Retriever: dense, BM25 or both, fused
current.py    CurrentIndex: the newest generation, reopened between questions
tuning.py     how thoroughly to search, from measured recall and latency
"""

from ragx.retrieval.current import CurrentIndex
from ragx.retrieval.embedder import TextEmbedder, open_embedder
from ragx.retrieval.retriever import Retriever, SearchResults
from ragx.retrieval.tuning import tune_index

__all__ = ["CurrentIndex", "Retriever", "SearchResults", "TextEmbedder", "open_embedder", "tune_index"]
