"""Encode the passages of an index ahead of time, so that questions find them on disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import EncodingOptions
from ragx.errors import ModelError
from ragx.index import Index
from ragx.models.local import bundled
from ragx.rag import open_reader
from ragx.util.progress import progress

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.cepe.store import EncodeBatches, Filled
    from ragx.reader.cepe import CepeReader


def encode_index(folder: Path, reader: CepeReader, encode: EncodeBatches | None = None) -> Filled:
    """Encode what is not on disk yet; one that died is continued when called again.

    Args:
        folder: the index.
        reader: it, or for it `encode`, encodes.
        encode: as `cluster_encoding` gives it; None: `reader`.

    Raises:
        IndexFolderError: there is no index in `folder`, or it is damaged.
    """
    index = Index.open(folder)
    with progress(total=len(index), unit=" passages", desc="encoding") as bar:
        return reader.encode_ahead(index.live_passages(), bar.update, encode)


def open_encoding_reader(options: EncodingOptions) -> CepeReader:
    """The reader of a model whose encodings are worth keeping.

    Raises:
        ModelError: it is untrained, so that nothing attends to its encodings.
    """
    reader = open_reader(options)
    if reader.store is None:
        raise ModelError(
            f"{options.model} is an untrained reader: nothing attends to its encodings; name another --model"
        )
    return reader


def cluster_encoding(model: str, reader: CepeReader, *, device: str | None, bits: int | None) -> EncodeBatches:
    """What has the workers of the Ray cluster connected to encode for `reader`, which `model` names on all nodes.

    Raises:
        ConfigError: the cluster has no such device.
        ValueError: the reader keeps no encodings.
    """
    from ragx.distributed import Source, encode_batches, worker_device

    if reader.store is None:
        raise ValueError("a reader without a store keeps no encodings")
    theirs = worker_device(device)
    dtype = str(reader.model.encoder.norm.weight.dtype).removeprefix("torch.")
    path = Path(model).expanduser()
    name = str(path.absolute()) if model not in bundled() and path.exists() else model
    source = Source(_load, (name, theirs, dtype, bits), theirs)
    return partial(encode_batches, source, reader.model.encoder_fingerprint(), reader.store.format)


def _load(model: str, device: str, dtype: str, bits: int | None) -> CepeModel:
    from ragx import cepe

    return cepe.load(model, device=device, dtype=dtype, bits=bits)
