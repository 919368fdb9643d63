"""Encode the passages of an index ahead of time, so that questions find them on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import EncodingOptions
from ragx.errors import CorpusError, ModelError
from ragx.index import Index
from ragx.models.local import bundled
from ragx.reader.loading import open_reader
from ragx.retrieval import open_index
from ragx.types import Passage
from ragx.util.jsonlines import load_objects
from ragx.util.progress import progress

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.cepe.store import EncodeBatches, FillResult
    from ragx.reader.cepe import CepeReader


def encode_index(
    folder: Path,
    reader: CepeReader,
    encode: EncodeBatches | None = None,
    passages: Sequence[Passage] | None = None,
) -> FillResult:
    """Encode the passages that are not on disk yet. After an interruption, call it again to continue.

    Args:
        folder: the index.
        reader: the reader whose encodings are stored.
        encode: encodes batches, from `cluster_encoding`; None: `reader` does.
        passages: which ones, from `found_passages`; None: all.

    Raises:
        IndexFolderError: there is no index in `folder`, or it is damaged.
    """
    index = Index.open(folder)
    total = len(index) if passages is None else len(passages)
    with progress(total=total, unit=" passages", desc="encoding") as bar:
        return reader.encode_ahead(index.live_passages() if passages is None else passages, bar.update, encode)


def found_passages(folder: Path, questions: Path, k: int, device: str | None, dtype: str) -> list[Passage]:
    """The k passages found for each question of a file, those found for most questions first.

    Args:
        folder: the index.
        questions: JSON lines, each with a `question`.
        k: passages for each question.
        device: a torch device for the embedder; None: a GPU where there is one.
        dtype: number format of the embedder.

    Raises:
        CorpusError: the file cannot be read, or a line has no question; names file and line.
        IndexFolderError: there is no index in `folder`, or it is damaged.
        ModelError: the embedder is missing or unusable.
    """
    texts = []
    for where, row in load_objects(questions):
        if not isinstance(row.get("question"), str):
            raise CorpusError(f"{where} has no `question`")
        texts.append(row["question"])
    retriever = open_index(folder, device=device, dtype=dtype).retriever
    counts: Counter[str] = Counter()
    passages: dict[str, Passage] = {}
    for text in progress(dict.fromkeys(texts), unit=" questions", desc="searching"):
        for hit in retriever.search(text, k):
            passages[hit.passage.id] = hit.passage
            counts[hit.passage.id] += 1
    return [passages[id] for id, _ in counts.most_common()]


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
