"""Passages on disk: an index is a folder of immutable generations (`indexes/README.md` describes every file).

build.py          build_index: write passages as a new generation, resumable
update.py         update_index: add and delete passages in a new generation
staging.py        the generation being written
index.py          Index: an opened generation
by_id.py          find passages by id
documents.py      the documents of an opened generation
by_source.py      find passages by the file they came from
maintain.py       verify, repair, compact, collect garbage, remove
integrity.py      compare files with the manifest
passages.py       passages as Arrow files
vectors.py        stored vectors: float32, float16, int8
dense.py          FAISS: one index per shard
nearest.py        search a shard: FAISS's candidates, exact scores
faiss_gpu.py      FAISS indexes on GPUs
words.py          the words of texts and questions
lexical.py        BM25 over the shards of the lexical index
lexical_shard.py  one of them, on tantivy
lexical_build.py  write the lexical index of a generation
manifest.py       manifest.json: the contents of a generation
names.py          named indexes
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
