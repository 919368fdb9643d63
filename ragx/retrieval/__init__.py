"""Question -> hits.

embedder.py              TextEmbedder: passages and questions to vectors
sentence_transformer.py  any sentence-transformers model, computed by torch
compiled_embedder.py     BERT-like models compiled for the CPU, computed by ONNX Runtime
compiling.py, bert.py    how they are compiled, and their graph
truncated.py             the first dimensions of an embedder's vectors
loading.py               open_embedder: which of the two computes a model
tokenizer.py             read control strings in a text as plain text
retriever.py             Retriever: dense, BM25 or both, fused
effort.py                search for questions that need several passages
current.py               open_index, CurrentIndex: the newest generation, reopened when another is published
tuning.py                search settings from measured recall and latency
filters/                 which passages a search considers
repeats.py               passages about a text that are not copies of it
rerankers/               hits in a better order
"""

from ragx.retrieval.current import CurrentIndex, open_index
from ragx.retrieval.effort import search_with_effort
from ragx.retrieval.embedder import TextEmbedder
from ragx.retrieval.loading import open_embedder
from ragx.retrieval.retriever import FUSION_DEPTH, Retriever, SearchResults, fuse_results
from ragx.retrieval.tuning import tune_index

__all__ = [
    "FUSION_DEPTH",
    "CurrentIndex",
    "Retriever",
    "SearchResults",
    "TextEmbedder",
    "fuse_results",
    "open_embedder",
    "open_index",
    "search_with_effort",
    "tune_index",
]
