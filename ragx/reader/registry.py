"""The readers by name. A new one is a file `ragx/reader/NAME.py` whose `READER` is its class, and its name in
`ragx.types.ReaderName`: `ask`, Python, LangChain and the server then offer it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, get_args

from ragx.config import ModelOptions
from ragx.types import ReaderName

if TYPE_CHECKING:
    from ragx.reader.base import DecoderReader, Reader
    from ragx.reader.cepe import CepeReader


def reader_class(name: ReaderName) -> type[DecoderReader]:
    """The class of a reader."""
    found: type[DecoderReader] = import_module(f"ragx.reader.{name}").READER
    return found


def readers_beside(cepe: CepeReader) -> dict[ReaderName, Reader]:
    """The readers that any decoder can have, if they work on the model's backend; they share its batch."""
    from ragx.engine.cpu.model import CpuModel

    others: list[ReaderName] = [name for name in get_args(ReaderName) if name not in ("cepe", "extensible")]
    return {
        name: reader_class(name)(cepe.model, cepe.tokenizer, cepe.batch)
        for name in others
        if not (reader_class(name).torch_only and isinstance(cepe.model, CpuModel))
    }


def for_reader(options: ModelOptions, reader: ReaderName | None) -> ModelOptions:
    """`options`, with the torch backend instead of `auto` if the reader needs it."""
    if reader is None or options.is_remote or options.backend != "auto" or not reader_class(reader).torch_only:
        return options
    return options.model_copy(update={"backend": "torch"})
