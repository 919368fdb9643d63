"""Open readers: a model's own, and the others around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragx.config import EncodingOptions, ModelOptions
from ragx.errors import ModelError
from ragx.reader.plug_in import plug_in_notes
from ragx.reader.registry import readers_beside
from ragx.types import ReaderName
from ragx.util.folders import cache_home

if TYPE_CHECKING:
    from ragx.reader.base import Reader
    from ragx.reader.cepe import CepeReader


def open_readers(options: ModelOptions) -> tuple[dict[ReaderName, Reader], list[str]]:
    """The readers around one model, and notes for the user, one line each.

    Raises:
        ModelError, ConfigError: as `RAG.from_index`.
    """
    from ragx.reader.chat import open_chat_reader

    if options.is_remote:
        return {"full": open_chat_reader(options)}, []
    cepe = open_reader(options)
    others = readers_beside(cepe)
    if cepe.model.is_trained:
        return {"cepe": cepe, **others}, plug_in_notes(cepe)
    return {**others, "cepe": cepe}, [f"{options.model} has no trained CEPE reader: it reads as full by default"]


def open_trained_reader(options: EncodingOptions) -> CepeReader:
    """As `open_reader`, for what needs encodings.

    Raises:
        ModelError: the model has no trained CEPE reader.
    """
    reader = open_reader(options)
    if not reader.model.is_trained:
        raise ModelError(f"{options.model} has no trained CEPE reader, whose encodings or attention order passages")
    return reader


def open_reader(options: EncodingOptions) -> CepeReader:
    """The CEPE reader of a model, with its passage encodings kept on disk.

    An untrained reader stores none, because it never attends to them.

    Raises:
        ModelError, ConfigError: as `RAG.from_index`.
    """
    from ragx.cepe.store import PassageStore
    from ragx.engine.open import open_model
    from ragx.reader.cepe import CepeReader

    model, tokenizer = open_model(options)
    store = None
    if model.is_trained:
        store = PassageStore(
            cache_home() / "encodings",
            model.encoder_fingerprint(),
            model.encoder_width,
            format=options.encodings,
            max_bytes=int(options.cache_size * 1e9),
        )
    return CepeReader(model, tokenizer, store, name=options.model)
