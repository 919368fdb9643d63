"""Passages -> vectors -> sharded index -> hits.

    encoder.py    TextEncoder: passages and questions to vectors
    tokenizer.py  makes a tokenizer read control strings as plain text
    build.py      build_index: passages to a published generation, resumable
    update.py     update_index: passages added and deleted, as the next generation
    staging.py    the generation that is being written
    index.py      Index: an opened generation
    by_source.py  BySource: the passages of an opened generation by the file that they came from
    upkeep.py     verify, repair, compact, collect garbage, remove
    tuning.py     how thoroughly to search, from measured recall and latency
    retriever.py  Retriever: a question to hits (dense, BM25, hybrid)
    dense.py      FAISS: one index a shard, exact re-scoring
    gpu.py        FAISS indexes on GPUs
    vectors.py    vectors as they are stored: float32, float16, int8
    bm25.py       BM25 over all shards; postings.py counts and merges its words on disk
    passages.py   passages as Arrow files
    manifest.py   manifest.json: what a generation holds
    durable.py    files that survive a crash, and the writer's lock

The files are described byte by byte in `indexes/README.md`.
"""

from ragx.retrieval.build import build_index
from ragx.retrieval.encoder import Encoder, TextEncoder
from ragx.retrieval.index import Index
from ragx.retrieval.manifest import Manifest, read_manifest
from ragx.retrieval.retriever import METHODS, Found, Method, Retriever
from ragx.retrieval.tuning import tune_index
from ragx.retrieval.update import update_index
from ragx.retrieval.upkeep import collect_garbage, compact_index, remove, repair_index, verify

__all__ = [
    "METHODS",
    "Encoder",
    "Found",
    "Index",
    "Manifest",
    "Method",
    "Retriever",
    "TextEncoder",
    "build_index",
    "collect_garbage",
    "compact_index",
    "read_manifest",
    "remove",
    "repair_index",
    "tune_index",
    "update_index",
    "verify",
]
