"""What RagxLLM and ChatRagx share: their settings, and a question's way to a cited answer.

1. Passages: the documents given with the call, or those that the retriever finds, or those that the index holds.
2. The reader encodes and reads them, and decodes an answer token by token.
3. Spans of the passages that support the answer are cited.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable
from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from ragx.config import SamplingParams, checked
from ragx.errors import ConfigError
from ragx.langchain.documents import to_passage
from ragx.langchain.retriever import Folder, RagxRetriever
from ragx.rag import DEFAULT_MODEL, check_question, default_index, open_reader, reader_notes
from ragx.reader import ReaderName
from ragx.reader.base import Reader
from ragx.reader.citations import cite
from ragx.types import Citation, Hit, Message
from ragx.util.device import out_of_memory_is_one_line
from ragx.util.text import without_surrogates

GENERATION = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
PER_CALL = ("model", "k", "prompt_passages", "reader", "max_tokens", *GENERATION)
"""Settings that a call, or `.bind`, may say otherwise."""
REMOTE = ("api_key", "base_url", "max_retries", "timeout")
"""LangChain's standard settings for models behind a network: taken, and of no effect in this process."""

_lock = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What is known when an answer is complete."""

    model: str
    citations: list[Citation]
    notes: list[str]
    """One line each: what the user should know about this answer."""
    input_tokens: int
    """Tokens of the decoder's prompt (N)."""
    output_tokens: int
    """Decoded tokens, the end of turn included."""
    context_tokens: int
    """Tokens of passages that the decoder attended to outside of its prompt (M)."""


class Answering(BaseModel):
    """The settings of RagxLLM and ChatRagx. All from `model` to `max_tokens`, and `stop`, can be given with a call."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: Folder | None = None
    """An index folder to take passages from; None: `RAGX_INDEX`, or `indexes/default` in ragx's home."""
    retriever: Runnable[str, list[Document]] | None = None
    """Takes passages from any LangChain retriever instead: it says how many, best first."""
    model: str = DEFAULT_MODEL
    """The decoder or CEPE reader: a registered name, a folder or a Hub id. Loaded when first used, once a process."""
    k: int = 60
    """Passages to take from the index (K)."""
    prompt_passages: int = 10
    """How many passages, from the best on, also stand in the decoder's prompt."""
    reader: ReaderName = "cepe"
    """`cepe`, or `full` for the plain decoder with all passages in its prompt."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int = 256
    """Of the answer."""
    stop: list[str] = []
    """Strings that end the answer; they are not part of it."""
    device: str | None = None
    """A torch device, or `auto` for all GPUs; None: a GPU where there is one."""
    dtype: str | None = None
    """Number format of the models; None: what the device multiplies fastest."""
    bits: int | None = None
    """8 or 4 hold the decoder's matrices in so many bits."""

    _default_index: str = PrivateAttr(default_factory=lambda: str(default_index()))
    _index_retriever: RagxRetriever | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _without_remote_settings(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("retriever") is not None and values.get("index") is not None:
            raise ValueError("give either an index or a retriever, not both")
        return {name: value for name, value in values.items() if name not in REMOTE}

    @model_validator(mode="after")
    def _settings_are_in_range(self) -> Answering:
        self._settings(None, {})
        return self

    @property
    def _identifying_params(self) -> dict[str, Any]:
        names = ("retriever", *PER_CALL, "stop", "device", "dtype", "bits")
        index = self._folder if self.retriever is None else None
        return {"index": index, **{name: getattr(self, name) for name in names}}

    @property
    def _folder(self) -> str:
        return self._default_index if self.index is None else self.index

    def _settings(self, stop: Sequence[str] | None, options: dict[str, Any]) -> tuple[dict[str, Any], SamplingParams]:
        """The settings of one call.

        Raises:
            ConfigError: one is unknown or out of range.
        """
        if unknown := options.keys() - {*PER_CALL, "stream"}:
            raise ConfigError(f"unknown setting {min(unknown)!r}")
        settings = {name: options.get(name, getattr(self, name)) for name in PER_CALL}
        stops = (stop,) if isinstance(stop, str) else tuple(self.stop if stop is None else stop)
        if "" in stops:
            raise ConfigError("a stop string is empty: every answer would end at once")
        generation = {name: settings[name] for name in GENERATION}
        check_question("?", settings["k"], settings["prompt_passages"], settings["reader"], "hybrid")
        return settings, checked(
            SamplingParams, {**generation, "max_new_tokens": settings["max_tokens"], "stop": stops}
        )

    def _answer(
        self,
        question: str,
        documents: Sequence[Document],
        stop: Sequence[str] | None,
        options: dict[str, Any],
        history: Sequence[Message] = (),
    ) -> Iterator[str | Outcome]:
        """Pieces of the answer as they are decoded, without white space around it, and the outcome at last.

        Closing the iterator stops the generation before its next token.

        Raises:
            ConfigError: a setting is unknown or out of range, or the question does not fit into the decoder's window.
            ModelError: the model is missing, unusable or too large for the memory.
        """
        settings, generation = self._settings(stop, options)
        passages = [
            to_passage(document, document.id or f"document {n}") for n, document in enumerate(documents, start=1)
        ]
        readers, notes = _open_readers(settings["model"], self.device, self.dtype, self.bits)
        reader = readers[settings["reader"]]
        with out_of_memory_is_one_line():
            reading = reader.prepare(
                question, passages, prompt_passages=settings["prompt_passages"], generation=generation, history=history
            )
            text, held = "", ""
            with closing(reader.stream(reading, generation)) as stream:
                for piece in stream:
                    held = held + piece if text else (held + piece).lstrip()
                    if ready := held.rstrip():
                        text, held = text + ready, held[len(ready) :]
                        yield ready
        yield Outcome(
            model=settings["model"],
            citations=cite(text, question, [Hit(passage, 0.0) for passage in passages]),
            notes=notes + reading.notes,
            input_tokens=len(reading.prompt.ids),
            output_tokens=stream.tokens,
            context_tokens=reading.context.tokens if reading.context is not None else 0,
        )

    def _documents(self, question: str, options: dict[str, Any]) -> list[Document]:
        """The passages for a question; takes `documents` out of the options."""
        given: list[Document] | None = options.pop("documents", None)
        if given is not None:
            return given
        if self.retriever is not None:
            return self.retriever.invoke(question)
        return self._over_index().invoke(question, k=options.get("k", self.k))

    async def _adocuments(self, question: str, options: dict[str, Any]) -> list[Document]:
        given: list[Document] | None = options.pop("documents", None)
        if given is not None:
            return given
        if self.retriever is not None:
            return await self.retriever.ainvoke(question)
        return await self._over_index().ainvoke(question, k=options.get("k", self.k))

    def _over_index(self) -> RagxRetriever:
        if self._index_retriever is None:
            self._index_retriever = RagxRetriever(index=self._folder, device=self.device, dtype=self.dtype)
        return self._index_retriever


def checked_question(text: str) -> str:
    """The text, if it is one.

    Raises:
        ConfigError: there is none.
    """
    if not text.strip():
        raise ConfigError("the question is empty")
    return without_surrogates(text)


def _open_readers(
    model: str, device: str | None, dtype: str | None, bits: int | None
) -> tuple[dict[ReaderName, Reader], list[str]]:
    """The readers around a model, and what the user should know about them; the last two models stay loaded."""
    with _lock:  # or threads that need it at once would each load it
        return _opened(model, device, dtype, bits)


@lru_cache(maxsize=2)
def _opened(
    model: str, device: str | None, dtype: str | None, bits: int | None
) -> tuple[dict[ReaderName, Reader], list[str]]:
    from ragx.reader.full import FullReader

    reader = open_reader(model, device=device, dtype=dtype, bits=bits)
    return {"cepe": reader, "full": FullReader(reader.model, reader.tokenizer)}, reader_notes(model, reader)
