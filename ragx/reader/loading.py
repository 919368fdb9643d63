"""Open readers: a model's own, and the others around it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ragx.config import EncodingOptions, ModelOptions
from ragx.errors import ConfigError, ModelError
from ragx.models import read_config, resolve
from ragx.reader.plug_in import plug_in_notes
from ragx.reader.registry import readers_beside
from ragx.types import ReaderName
from ragx.util.folders import cache_home

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.cepe.store import PassageStore
    from ragx.reader.base import Reader
    from ragx.reader.cepe import CepeReader
    from ragx.reader.extensible import ExtensibleReader


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
    if (extensible := _extensible(options, cepe)) is not None:
        return {"extensible": extensible, **others, "cepe": cepe}, []
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
    from ragx.engine.open import open_model
    from ragx.reader.cepe import CepeReader

    model, tokenizer = open_model(options)
    store = _store(options, model.encoder_fingerprint(), model.encoder_width) if model.is_trained else None
    return CepeReader(model, tokenizer, store, name=options.model, within=_within(options.model))


def _within(name: str) -> float:
    """The default of `ReaderOptions.within` that the reader of this name has in its config.json."""
    value = read_config(resolve(name)).get("within", math.inf)
    if type(value) not in (int, float) or not value >= 0:
        raise ModelError(f"{name}: within in config.json must be a number, at least 0, not {value!r}")
    return float(value)


def _extensible(options: ModelOptions, cepe: CepeReader) -> ExtensibleReader | None:
    """The extensible reader of a model that has an embedder; it shares the batch of `cepe`."""
    model: CepeModel = cepe.model  # type: ignore[assignment]  # only torch has embedders
    embedder = getattr(model, "extensible", None)
    if embedder is None:
        if options.ratio is not None:
            raise ConfigError(f"ratio: {options.model} has no extensible embedder")
        return None
    from ragx.extensible.embedder import choose_ratio
    from ragx.reader.extensible import ExtensibleReader

    ratio = choose_ratio(model, options.ratio)
    store = _store(options, embedder.fingerprint(model), model.config.hidden_size, ratio)
    return ExtensibleReader(model, cepe.tokenizer, cepe.batch, ratio=ratio, store=store)


def _store(options: EncodingOptions, fingerprint: str, width: int, tokens_a_row: int = 1) -> PassageStore:
    from ragx.cepe.store import PassageStore

    return PassageStore(
        cache_home() / "encodings",
        fingerprint,
        width,
        format=options.encodings,
        max_bytes=int(options.cache_size * 1e9),
        tokens_a_row=tokens_a_row,
    )
