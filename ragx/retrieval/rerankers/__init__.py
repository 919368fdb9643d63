"""Hits -> hits in a better order.

base.py           Reranker, the interface; rerank and search_reranked
loading.py        open_reranker: which of these a name means
calibration.py    what a best score says about whether the hits hold the answer
compiled.py       BERT-like cross-encoders compiled for the CPU, computed by ONNX Runtime
compiling.py      how they are compiled
cross_encoder.py  any sentence-transformers cross-encoder, computed by torch
stored.py         ragx's own cross-encoders on disk: int8, around the embeddings of an embedder
late.py           late interaction over the encodings that a reader keeps
api.py            rerank APIs in the form of Jina's and Cohere's

ragx/reader/reranking.py opens those that a reader computes, too.
"""

from ragx.retrieval.rerankers.base import Reranker, close_to_best, rerank, search_reranked
from ragx.retrieval.rerankers.loading import open_reranker

__all__ = ["Reranker", "close_to_best", "open_reranker", "rerank", "search_reranked"]
