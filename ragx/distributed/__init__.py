"""Build, encode and search an index on a Ray cluster.

    cluster.py    connect to a cluster, or start a local one
    embedder.py   RayEmbedder: workers embed passages
    encodings.py  encode_batches: workers encode passages for a reader
    shards.py     make_shards: workers embed and build FAISS indexes
    retriever.py  RayRetriever: actors search their shards

Needs `pip install 'ragx[ray]'`; see `docs/ray.md`.
"""

try:
    import ray  # noqa: F401
except ImportError:
    raise ImportError("ragx.distributed needs ray: pip install 'ragx[ray]'") from None

from ragx.distributed.cluster import cluster, worker_device
from ragx.distributed.embedder import ModelSource, RayEmbedder
from ragx.distributed.encodings import encode_batches
from ragx.distributed.retriever import RayRetriever
from ragx.distributed.shards import make_shards

__all__ = ["ModelSource", "RayEmbedder", "RayRetriever", "cluster", "encode_batches", "make_shards", "worker_device"]
