"""Encode the passages of an index ahead of time, so that questions find them on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.errors import ModelError
from ragx.rag import open_reader
from ragx.retrieval import Index

if TYPE_CHECKING:
    from ragx.cepe.store import Filled
    from ragx.reader.cepe import CepeReader


def encode_index(folder: Path, reader: CepeReader) -> Filled:
    """Encode what is not on disk yet; one that died is continued when called again.

    Raises:
        IndexFolderError: there is no index in `folder`, or it is damaged.
    """
    index = Index.open(folder)
    with tqdm(total=len(index), unit=" passages", desc="encoding", dynamic_ncols=True) as bar:
        return reader.encode_ahead(index.live_passages(), bar.update)


def open_encoding_reader(model: str, **options: object) -> CepeReader:
    """The reader named, if it is one whose encodings are worth keeping; options as `ragx.rag.open_reader`.

    Raises:
        ModelError: it is untrained, so that nothing attends to its encodings.
    """
    reader = open_reader(model, **options)  # type: ignore[arg-type]
    if reader.store is None:
        raise ModelError(f"{model} is an untrained reader: nothing attends to its encodings; name another --model")
    return reader
