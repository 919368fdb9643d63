"""RAG.ask: retrieve -> encode -> read -> cite. A newcomer reads this file first."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragx import models
from ragx.config import SamplingParams, checked
from ragx.errors import ConfigError
from ragx.index import Index
from ragx.reader import READERS, ReaderName
from ragx.reader.citations import cite
from ragx.reader.conversation import search_query
from ragx.retrieval import METHODS, Method, Retriever, open_embedder
from ragx.types import Answer, Hit, Message, Timings
from ragx.util.device import out_of_memory_is_one_line, parse_dtype, usable_device
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import torch

    from ragx.cepe.model import Attend
    from ragx.cepe.store import Format
    from ragx.reader.base import Reader
    from ragx.reader.cepe import CepeReader

ATTEND: tuple[Attend, ...] = ("auto", "project", "cached", "latent")
ENCODINGS: tuple[Format, ...] = ("bfloat16", "int8")
DEFAULT_MODEL = "ceped-smollm2-135m"
"""The decoder (or whole CEPE reader) that answers when none is named."""


def default_index() -> Path:
    """Where an index lies when no folder is named: `RAGX_INDEX`, or `indexes/default` in ragx's home."""
    return Path(os.environ.get("RAGX_INDEX") or models.home() / "indexes" / "default")


class RAG:
    """An index, a retriever and a reader: questions in, cited answers out."""

    def __init__(
        self,
        retriever: Retriever,
        readers: dict[ReaderName, Reader],
        *,
        method: Method = "hybrid",
        notes: Sequence[str] = (),
    ) -> None:
        self.retriever, self.readers, self.method = retriever, readers, method
        self.notes = list(notes)
        """One line each: what the user should know about these models."""

    @classmethod
    def from_index(
        cls,
        index: str | Path | None = None,
        *,
        model: str = DEFAULT_MODEL,
        retriever: Method = "hybrid",
        attend: Attend = "auto",
        cache_size: float = 4.0,
        encodings: Format = "bfloat16",
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        bits: int | None = None,
    ) -> RAG:
        """Open an index and load the models that answer from it.

        Args:
            index: an index folder; None: `default_index()`.
            model: the decoder or CEPE reader: a registered name, a folder or a Hub id.
            retriever: what `ask` searches with; `bm25` needs no encoder and loads none.
            attend: how decoding attends to passages: `project`, `cached`, `latent`, or `auto` for the cheapest.
            cache_size: bound on the passage encodings kept on disk, in GB; 0 keeps none.
            encodings: their number format: `bfloat16`, or `int8` in half the space.
            device: a torch device, or `auto` to spread the decoder over all GPUs; None: a GPU where there is one.
                `cuda` (all GPUs) and `cuda:N` also search shards there, where FAISS can.
            dtype: number format of the models; None: what the device multiplies fastest.
            bits: 8 or 4 hold the decoder's matrices in so many bits (bitsandbytes).

        Raises:
            IndexFolderError: there is no index there, it is damaged, or its encoder is not the one it was built with.
            ModelError: a model is missing, unusable or too large for the memory.
            ConfigError: an argument is not one of those listed.
        """
        if retriever not in METHODS:
            raise ConfigError(f"retriever {retriever!r} is not one of {', '.join(METHODS)}")
        if attend not in ATTEND:
            raise ConfigError(f"attend {attend!r} is not one of {', '.join(ATTEND)}")
        opened = open_retriever(index, method=retriever, device=device, dtype=dtype)
        from ragx.reader.full import FullReader

        read = open_reader(model, cache_size=cache_size, encodings=encodings, device=device, dtype=dtype, bits=bits)
        read.model.attend = attend
        readers: dict[ReaderName, Reader] = {"cepe": read, "full": FullReader(read.model, read.tokenizer)}
        return cls(opened, readers, method=retriever, notes=reader_notes(model, read))

    @out_of_memory_is_one_line()
    def ask(
        self,
        question: str,
        *,
        history: Sequence[Message] = (),
        k: int = 60,
        prompt_passages: int = 10,
        reader: ReaderName = "cepe",
        retriever: Method | None = None,
        why: bool = False,
        on_text: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
        **generation: Any,
    ) -> Answer:
        """Answer a question from the index.

        Args:
            question: the question, as text.
            history: the conversation before it, for a follow-up question: it is searched together with the questions
                before it, and the prompt repeats what fits of the last turns.
            k: passages to retrieve and read (K).
            prompt_passages: how many of them, from the best on, also stand in the decoder's prompt.
            reader: `cepe`, or `full` for the plain decoder with all k in its prompt.
            retriever: `dense`, `bm25`, or `hybrid` for both, fused by reciprocal rank; None: as given to `from_index`.
            why: whether to note each passage's share of the attention, as `Answer.shares`.
            on_text: called with each piece of the answer as it is decoded.
            cancel: set it, in another thread, to end the answer where it is.
            generation: `max_new_tokens`, `temperature` and the other settings of `ragx.config.SamplingParams`.

        Raises:
            ConfigError: an argument is out of range, or the question does not fit into the decoder's window.
        """
        question = without_surrogates(question)
        method = retriever or self.method
        check_question(question, k, prompt_passages, reader, method)
        decoding = checked(SamplingParams, generation)
        start = time.perf_counter()
        hits = self.retriever.search(search_query(question, history), k, method)
        retrieved = time.perf_counter()
        passages = [hit.passage for hit in hits]
        reading = self.readers[reader].prepare(
            question, passages, prompt_passages=prompt_passages, generation=decoding, history=history
        )
        encoded = time.perf_counter()
        if reading.context is not None:
            reading.context.watch = why

        pieces: list[str] = []
        times: list[float] = []
        stream = self.readers[reader].stream(reading, decoding, cancel)
        with contextlib.closing(stream):
            for piece in stream:
                times.append(time.perf_counter())
                pieces.append(piece)
                if on_text and piece:
                    on_text(piece)
        text = "".join(pieces).strip()
        citations = cite(text, question, hits)
        end = time.perf_counter()
        timings = Timings(
            retrieve=retrieved - start,
            encode=encoded - retrieved,
            first_token=(times[0] if times else end) - start,
            total=end - start,
            tokens_per_second=(len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0,
        )
        shares = reading.context.shares() if reading.context is not None else None
        return Answer(
            text,
            citations,
            hits,
            timings,
            shares=None if shares is None else shares[0].tolist(),
            notes=hits.notes + self._notes(hits, k) + reading.notes,
            finish=stream.finish,
            prompt_tokens=len(reading.prompt.ids),
            answer_tokens=stream.tokens,
        )

    def _notes(self, hits: list[Hit], k: int) -> list[str]:
        if not hits:
            return ["no passage of the index matches the question; the answer comes from the decoder alone"]
        if len(hits) < k and k > len(self.retriever.index):
            return [f"k is {k}, but the index has {len(self.retriever.index)} passages; all of them are read"]
        return []


def open_reader(
    model: str = DEFAULT_MODEL,
    *,
    cache_size: float = 4.0,
    encodings: Format = "bfloat16",
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    bits: int | None = None,
) -> CepeReader:
    """The reader that answers, with its passage encodings kept on disk; arguments as `RAG.from_index`.

    An untrained reader keeps none: nothing attends to them.

    Raises:
        ModelError, ConfigError: as `RAG.from_index`.
    """
    if encodings not in ENCODINGS:
        raise ConfigError(f"encodings {encodings!r} is not one of {', '.join(ENCODINGS)}")
    if not 0 <= cache_size < math.inf:
        raise ConfigError(f"cache_size must be a number of GB from 0 on, not {cache_size}")
    from ragx import cepe
    from ragx.cepe.store import PassageStore
    from ragx.reader.cepe import CepeReader
    from ragx.util.tokenization import load_tokenizer

    decoder = cepe.load(model, device=device, dtype=dtype, bits=bits)
    store = None
    if decoder.is_trained:
        store = PassageStore(
            models.home() / "encodings",
            decoder.encoder_fingerprint(),
            decoder.config.encoder_config.hidden_size,
            format=encodings,
            max_bytes=int(cache_size * 1e9),
        )
    return CepeReader(decoder, load_tokenizer(Path(str(decoder.name_or_path))), store)


def reader_notes(model: str, reader: CepeReader) -> list[str]:
    """One line each: what the user should know about the reader that `model` names."""
    if reader.model.is_trained:
        return []
    return [f"the reader around {model} is untrained: it answers from its prompt's passages alone"]


def open_retriever(
    index: str | Path | None = None,
    *,
    method: Method = "hybrid",
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
) -> Retriever:
    """Open an index with the embedder it was built with, or with none where `method` needs none.

    Raises:
        IndexFolderError, ModelError, ConfigError: as `RAG.from_index`.
    """
    opened = Index.open(Path(index) if index is not None else default_index())
    if method == "bm25":
        if device is not None or dtype not in (None, "auto"):  # else torch is not imported
            parse_dtype(dtype, usable_device(device))
        return Retriever(opened)
    embedder = open_embedder(opened.manifest.embedder.name, device=device, dtype=dtype)
    return Retriever(opened, embedder, device=device)


def check_search(question: str, k: int, retriever: str) -> None:
    """Raise a `ConfigError` when the arguments of a search are out of range."""
    if not question.strip():
        raise ConfigError("the question is empty")
    if not isinstance(k, int) or k < 1:
        raise ConfigError(f"k must be a whole number from 1 on, not {k}")
    if retriever not in METHODS:
        raise ConfigError(f"retriever {retriever!r} is not one of {', '.join(METHODS)}")


def check_question(question: str, k: int, prompt_passages: int, reader: str, retriever: str) -> None:
    """Raise a `ConfigError` when the arguments of `RAG.ask` are out of range."""
    check_search(question, k, retriever)
    if prompt_passages < 0:
        raise ConfigError(f"prompt_passages must not be negative, as {prompt_passages} is")
    if reader not in READERS:
        raise ConfigError(f"reader {reader!r} is not one of {', '.join(READERS)}")
