"""Passages -> disk: an index is a folder of immutable generations (`indexes/README.md` describes every file).

build.py      build_index: passages to a published generation, resumable
update.py     update_index: passages added and deleted, as the next generation
staging.py    the generation being written
index.py      Index: an opened generation
by_id.py      the passages of an opened generation by their ids
documents.py  the documents of an opened generation
by_source.py  the passages of an opened generation by the file they came from
maintain.py   verify, repair, compact, collect garbage, remove
passages.py   passages as Arrow files
vectors.py    vectors as stored: float32, float16, int8
dense.py      FAISS: one index per shard, exact re-scoring
faiss_gpu.py  FAISS indexes on GPUs
lexical.py    BM25 over all shards, by tantivy
manifest.py   manifest.json: what a generation holds
names.py      named indexes
"""

from ragx.index.build import build_index
from ragx.index.index import Index
from ragx.index.maintain import collect_garbage, compact_index, remove, repair_index, verify
from ragx.index.manifest import Manifest, read_manifest
from ragx.index.update import update_index

__all__ = [
    "Index",
    "Manifest",
    "build_index",
    "collect_garbage",
    "compact_index",
    "read_manifest",
    "remove",
    "repair_index",
    "update_index",
    "verify",
]
