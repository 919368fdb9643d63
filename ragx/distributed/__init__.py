"""The work of an index spread over a Ray cluster.

    cluster.py    connect to a cluster, or start a local one
    embedder.py    RayEmbedder: passages embedded by the workers
    encodings.py  encode_batches: passages encoded for a reader by the workers
    shards.py     make_shards: embedding and FAISS indexes as tasks
    retriever.py  RayRetriever: actors that own shards search them

Needs `pip install 'ragx[ray]'`; see `docs/ray.md`.
"""

try:
    import ray  # noqa: F401
except ImportError:
    raise ImportError("ragx.distributed needs ray: pip install 'ragx[ray]'") from None

from ragx.distributed.cluster import cluster, worker_device
from ragx.distributed.embedder import RayEmbedder, Source
from ragx.distributed.encodings import encode_batches
from ragx.distributed.retriever import RayRetriever
from ragx.distributed.shards import make_shards

__all__ = ["RayEmbedder", "RayRetriever", "Source", "cluster", "encode_batches", "make_shards", "worker_device"]
