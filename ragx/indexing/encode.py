"""Encode the passages of an index ahead of time, so that questions find them on disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import EncodingOptions
from ragx.errors import ModelError
from ragx.index import Index
from ragx.models.local import bundled
from ragx.reader.loading import open_reader
from ragx.util.progress import progress

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.cepe.store import EncodeBatches, FillResult
    from ragx.reader.cepe import CepeReader


def encode_index(folder: Path, reader: CepeReader, encode: EncodeBatches | None = None) -> FillResult:
    """Encode the passages that are not on disk yet. After an interruption, call it again to continue.

    Args:
        folder: the index.
        reader: the reader whose encodings are stored.
        encode: encodes batches, from `cluster_encoding`; None: `reader` does.

    Raises:
        IndexFolderError: there is no index in `folder`, or it is damaged.
    """
    index = Index.open(folder)
    with progress(total=len(index), unit=" passages", desc="encoding") as bar:
        return reader.encode_ahead(index.live_passages(), bar.update, encode)


def open_encoding_reader(options: EncodingOptions) -> CepeReader:
    """Open a trained reader, which stores its encodings.

    Raises:
        ModelError: the reader is untrained and never attends to encodings.
    """
    reader = open_reader(options)
    if reader.store is None:
        raise ModelError(f"{options.model} is an untrained reader, which uses no encodings: choose another --model")
    return reader


def cluster_encoding(model: str, reader: CepeReader, *, device: str | None, bits: int | None) -> EncodeBatches:
    """A function that encodes batches for `reader` on the connected Ray cluster.

    Args:
        model: name or path of the reader on all nodes.
        reader: the same reader in this process.
        device: device of the workers.
        bits: 8 or 4 quantize the decoder's matrices.

    Raises:
        ConfigError: the cluster has no such device.
        ValueError: the reader has no store.
    """
    from ragx.distributed import ModelSource, encode_batches, worker_device

    if reader.store is None:
        raise ValueError("the reader has no store")
    device = worker_device(device)
    dtype = reader.model.encoder_dtype
    path = Path(model).expanduser()
    name = str(path.absolute()) if model not in bundled() and path.exists() else model
    source = ModelSource(_load, (name, device, dtype, bits), device)
    return partial(encode_batches, source, reader.model.encoder_fingerprint(), reader.store.format)


def _load(model: str, device: str, dtype: str, bits: int | None) -> CepeModel:
    from ragx import cepe

    return cepe.load(model, device=device, dtype=dtype, bits=bits)
