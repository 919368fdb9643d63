"""Base of RagxLLM and ChatRagx: their settings, and the path from a question to a cited answer.

1. Passages: the documents given with the call, or those found by the retriever or in the index.
2. The reader encodes and reads them, and decodes an answer token by token.
3. Spans of the passages that support the answer are cited.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable, run_in_executor
from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from ragx.config import (
    NO_LIMIT,
    PROMPT_PASSAGES,
    REMOTE,
    RERANK,
    ModelOptions,
    ReaderOptions,
    SamplingParams,
    SearchOptions,
)
from ragx.errors import ConfigError
from ragx.index.names import default_index
from ragx.langchain.documents import to_passage
from ragx.langchain.retriever import Folder, RagxRetriever
from ragx.rag import DEFAULT_MODEL
from ragx.reader.base import Reader, choose_reader
from ragx.reader.loading import open_readers
from ragx.reader.reading import read
from ragx.reader.registry import for_reader
from ragx.reader.reranking import open_reranker
from ragx.reader.splitting import split_question
from ragx.retrieval import FUSION_DEPTH, SearchResults, fuse_results
from ragx.retrieval.rerankers import Reranker, rerank
from ragx.types import Answer, BackendName, Effort, Hit, Message, ReaderName
from ragx.util.device import report_oom
from ragx.util.settings import checked
from ragx.util.terminal import notice

RERANK_SCORE = "rerank_score"
"""Where the metadata of a document has it."""
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop_loops")
PER_CALL = ("model", "k", "rerank", "effort", "prompt_passages", "within", "reader", "max_tokens", *SAMPLING)
"""Settings that a call, or `.bind`, may override."""
IGNORED = ("api_key", "max_retries")
"""LangChain's standard settings for remote models: accepted and ignored. Keys come from the environment."""

NO_TOOLS = "ragx calls no tools: it answers from passages"
NO_SCHEMA = "ragx answers in plain text, not by a schema: parse the answer's text"
UNSUPPORTED = {"tools": NO_TOOLS, "tool_choice": NO_TOOLS, "functions": NO_TOOLS, "response_format": NO_SCHEMA}
"""Settings of other chat models, and why they are refused."""

_loading = threading.Lock()
_loaded: dict[ModelOptions, tuple[dict[ReaderName, Reader], list[str]]] = {}
"""The last two models."""


class Answering(BaseModel):
    """The settings of RagxLLM and ChatRagx. All from `model` to `max_tokens`, and `stop`, can be given with a call."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: Folder | None = None
    """The name or folder of an index to take passages from; None: `RAGX_INDEX`, or the default index."""
    retriever: Runnable[str, list[Document]] | None = None
    """Takes passages from any LangChain retriever instead: it decides how many; best first."""
    model: str = DEFAULT_MODEL
    """The decoder or CEPE reader: a registered name, a folder or a Hub id. Loaded on first use, once per process.
    Behind an API: `openai:NAME` or `ollama:NAME`."""
    base_url: str | None = None
    """Address of the API; None: OPENAI_BASE_URL, OLLAMA_HOST, or their own. Ignored for a model on this machine."""
    timeout: float | None = None
    """Seconds that an API may stay silent; None: 300."""
    k: int = 60
    """Passages to retrieve from the index (K)."""
    rerank: str | None = None
    """What reorders the first passages: `none`, a cross-encoder (name, folder or Hub id), `late` or `attention`, which
    the reader computes, or the URL of a rerank API.
    None: the default for passages of the index; those of a `retriever` keep their order."""
    effort: Effort = "low"
    """How much is searched in the index (`ragx.config.SearchOptions`)."""
    prompt_passages: int = PROMPT_PASSAGES
    """How many passages, best first, also stand in the decoder's prompt."""
    within: float | None = None
    """Only passages that the reranker scores at most this much below the best one are read
    (`ragx.config.ReaderOptions`)."""
    reader: ReaderName | None = None
    """How passages are read (`ragx.config.ReaderOptions`); None: what the model was trained for, or `full`."""
    temperature: float = 0.0
    """0 decodes greedily."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_loops: bool = True
    """End an answer that repeats itself."""
    max_tokens: int = 256
    """Maximum number of new tokens; -1, or more than the decoder's window holds: as many as fit."""
    stop: list[str] = []
    """Strings that end the answer; they are not part of it."""
    device: str | None = None
    """A torch device, or `auto` for all GPUs; None: a GPU where there is one."""
    dtype: str | None = None
    """Number format of the models; None: what the device multiplies fastest."""
    backend: BackendName = "auto"
    """What computes: torch, or cpu: graphs with 8-bit weights; auto: cpu where there is no GPU."""
    bits: int | None = None
    """Quantize the decoder to 4 or 8 bits (bitsandbytes)."""
    rope_scaling: str | None = None
    """`yarn:FACTOR` or `linear:FACTOR` stretches the decoder's positions over a longer window."""
    ratio: int | None = None
    """`extensible`: tokens for each embedding; None: the smallest number that it was trained with."""

    _default_index: str = PrivateAttr(default_factory=lambda: str(default_index()))
    _index_retriever: RagxRetriever | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _without_remote_settings(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("retriever") is not None and values.get("index") is not None:
            raise ValueError("give either an index or a retriever, not both")
        return {name: value for name, value in values.items() if name not in IGNORED}

    @model_validator(mode="after")
    def _settings_are_in_range(self) -> Answering:
        self._settings(None, {})
        return self

    @property
    def _identifying_params(self) -> dict[str, Any]:
        loading = ("device", "dtype", "backend", "bits", "rope_scaling", "ratio")
        names = ("retriever", *PER_CALL, "base_url", "stop", *loading)
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
            name = min(unknown)
            raise ConfigError(UNSUPPORTED.get(name, f"unknown setting {name!r}"))
        settings = {name: options.get(name, getattr(self, name)) for name in PER_CALL}
        stops = (stop,) if isinstance(stop, str) else tuple(self.stop if stop is None else stop)
        if "" in stops:
            raise ConfigError("stop strings must not be empty")
        values = {name: settings[name] for name in SAMPLING}
        search = {"k": settings["k"], "rerank": self._rerank(options), "effort": settings["effort"]}
        checked(SearchOptions, search)
        checked(ReaderOptions, {name: settings[name] for name in ("reader", "prompt_passages", "within")})
        most = NO_LIMIT if settings["max_tokens"] == -1 else settings["max_tokens"]
        try:
            return settings, checked(SamplingParams, {**values, "max_new_tokens": most, "stop": stops})
        except ConfigError as error:
            raise ConfigError(str(error).replace("max_new_tokens", "max_tokens")) from None

    def _answer(
        self,
        question: str,
        documents: Sequence[Document],
        stop: Sequence[str] | None,
        options: dict[str, Any],
        history: Sequence[Message] = (),
    ) -> Iterator[str | Answer]:
        """Pieces of the answer as they are decoded, then the answer; closing the iterator stops decoding.

        Raises:
            ConfigError: a setting is unknown or out of range, or the question does not fit into the decoder's window.
            ModelError: the model is missing, unusable or too large for the memory.
        """
        settings, sampling = self._settings(stop, options)
        hits = [
            Hit(to_passage(document, document.id or f"document {n}"), 0.0, _score(document))
            for n, document in enumerate(documents, start=1)
        ]
        readers, notes = open_cached_readers(self._model_options(settings["model"], settings["reader"]))
        reader = choose_reader(readers, settings["reader"])
        reader_options = ReaderOptions(prompt_passages=settings["prompt_passages"], within=settings["within"])
        with report_oom():
            answer = yield from read(reader, question, hits, options=reader_options, sampling=sampling, history=history)
        yield replace(answer, notes=notes + answer.notes)

    def _model_options(self, model: str, reader: ReaderName | None) -> ModelOptions:
        values: dict[str, Any] = {
            "model": model,
            "device": self.device,
            "dtype": self.dtype or "auto",
            "backend": self.backend,
            "bits": self.bits,
            "rope_scaling": self.rope_scaling,
            "ratio": self.ratio,
        }
        if model.startswith(REMOTE):
            values |= {"base_url": self.base_url, "timeout": self.timeout or ModelOptions().timeout}
        return for_reader(checked(ModelOptions, values), reader)

    def _documents(self, queries: Sequence[str], options: dict[str, Any]) -> list[Document]:
        """The passages for the queries of a question; takes `documents` out of the options."""
        given: list[Document] | None = options.pop("documents", None)
        if given is not None:
            return given
        reranker = self._reranker(options)
        retriever, settings, k = self._retrieval(queries, options, reranker)
        results = [retriever.invoke(query, **settings) for query in queries]
        return _best(queries[0], results, k, reranker)

    async def _adocuments(self, queries: Sequence[str], options: dict[str, Any]) -> list[Document]:
        given: list[Document] | None = options.pop("documents", None)
        if given is not None:
            return given
        reranker = await run_in_executor(None, self._reranker, options)
        retriever, settings, k = self._retrieval(queries, options, reranker)
        results = [await retriever.ainvoke(query, **settings) for query in queries]
        return await run_in_executor(None, _best, queries[0], results, k, reranker)

    def _rerank(self, options: dict[str, Any]) -> str:
        name: str | None = options.get("rerank", self.rerank)
        return (RERANK if self.retriever is None else "none") if name is None else name

    def _reranker(self, options: dict[str, Any]) -> Reranker | None:
        search = checked(SearchOptions, {"rerank": self._rerank(options)})

        def cepe() -> Reader | None:
            return self._readers(options).get("cepe")

        if self.retriever is not None:
            return open_reranker(search.rerank, self.device, reader=cepe)
        return self._retriever_over_index().open_reranker(search.rerank, cepe)

    def _readers(self, options: dict[str, Any]) -> dict[ReaderName, Reader]:
        model, reader = options.get("model", self.model), options.get("reader", self.reader)
        return open_cached_readers(self._model_options(model, reader))[0]

    def _retrieval(
        self, queries: Sequence[str], options: dict[str, Any], reranker: Reranker | None
    ) -> tuple[Runnable[str, list[Document]], dict[str, Any], int | None]:
        """The retriever, the settings to call it with, and how many of its documents to read; None: all of a query."""
        if self.retriever is not None:
            return self.retriever, {}, None
        k = options.get("k", self.k)
        most = max(k, FUSION_DEPTH if len(queries) > 1 else 0, reranker.depth if reranker else 0)
        settings = {
            "k": most,
            "effort": options.get("effort", self.effort),
            "split": lambda question: split_question(self._readers(options), question),
        }
        return self._retriever_over_index(), settings, k

    def _retriever_over_index(self) -> RagxRetriever:
        if self._index_retriever is None:
            self._index_retriever = RagxRetriever(
                index=self._folder, rerank="none", device=self.device, dtype=self.dtype
            )
        return self._index_retriever


def _best(question: str, results: Sequence[list[Document]], k: int | None, reranker: Reranker | None) -> list[Document]:
    """The k best documents of the queries of a question; None: as many as one query found."""
    documents = results[0]
    if len(results) > 1:
        documents = [each for each, _ in fuse_results(results, lambda document: document.id or document.page_content)]
    if reranker is not None:
        hits = SearchResults(Hit(to_passage(document, str(n)), 0.0) for n, document in enumerate(documents))
        rerank(hits, reranker, question)
        documents = [_with_score(documents[int(hit.passage.id)], hit.rerank_score) for hit in hits]
        for note in hits.notes:
            notice(note)
    return documents[: max(map(len, results)) if k is None else k]


def _with_score(document: Document, score: float | None) -> Document:
    """The document with the reranker's score in its metadata, by which a reader may leave it out."""
    return document.model_copy(update={"metadata": {**document.metadata, RERANK_SCORE: score}})


def _score(document: Document) -> float | None:
    score = document.metadata.get(RERANK_SCORE)
    return float(score) if isinstance(score, (int, float)) and not math.isnan(score) else None


def open_cached_readers(options: ModelOptions) -> tuple[dict[ReaderName, Reader], list[str]]:
    """The readers around a model, and notes for the user; the two most recently used models stay loaded."""
    with _loading:  # otherwise threads that need a model at once would each load it
        opened = _loaded.pop(options, None) or open_readers(options)
        _loaded[options] = opened
        if len(_loaded) > 2:
            del _loaded[next(iter(_loaded))]
        return opened
