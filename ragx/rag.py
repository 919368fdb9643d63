"""RAG.ask: retrieve, then read, for a cited answer. Start reading here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ragx.config import PROMPT_PASSAGES, RERANK, ModelOptions, ReaderOptions, SamplingParams, SearchOptions
from ragx.corpus import Document
from ragx.errors import ConfigError
from ragx.reader.base import choose_reader
from ragx.reader.conversation import question_text, search_queries
from ragx.reader.documents import document_hits
from ragx.reader.examples import Example
from ragx.reader.loading import open_readers
from ragx.reader.reading import plausible, read
from ragx.reader.reranking import open_reranker
from ragx.reader.splitting import split_question
from ragx.reader.task import ANSWER, DOCUMENT, PLAIN, Task
from ragx.retrieval import CurrentIndex, Retriever, SearchResults, open_index, search_with_effort
from ragx.retrieval.rerankers import Reranker, search_reranked
from ragx.types import (
    Answer,
    AttentionStrategy,
    Effort,
    EncodingFormat,
    Freeable,
    Hit,
    Message,
    ReaderName,
    SearchMethod,
)
from ragx.util.device import report_oom, trim_memory
from ragx.util.settings import checked
from ragx.util.tracing import span

if TYPE_CHECKING:
    import torch

    from ragx.cepe.store import OnEncoded
    from ragx.reader.base import Reader

DEFAULT_MODEL = ModelOptions().model
"""The default decoder or CEPE reader."""


class RAG:
    """An index, its retriever and a reader: questions in, cited answers out. Safe to share between threads.

    >>> with RAG.from_index("my-index") as rag:
    ...     print(rag.ask("What is albedo?").text)
    """

    def __init__(
        self,
        index: CurrentIndex | Retriever | None,
        readers: dict[ReaderName, Reader],
        *,
        method: SearchMethod = "hybrid",
        reranker: Reranker | None = None,
        where: str | None = None,
        effort: Effort = "low",
        frugal: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        """Combine parts that are already open; most callers want `from_index` or `from_model`."""
        self._index, self.method = index, method
        self.reranker, self.where, self.effort, self.frugal = reranker, where, effort, frugal
        self.readers = readers
        """By name; the first one is the default."""
        self.notes = list(notes)
        """One line each: what the user should know about these models."""

    @classmethod
    def from_index(
        cls,
        index: str | Path | None = None,
        *,
        method: SearchMethod = "hybrid",
        rerank: str = RERANK,
        effort: Effort = "low",
        where: str | None = None,
        model: str = DEFAULT_MODEL,
        attention_strategy: AttentionStrategy = "auto",
        cache_size: float = 4.0,
        encodings: EncodingFormat = "bfloat16",
        ratio: int | None = None,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        backend: str = "auto",
        bits: int | None = None,
        rope_scaling: str | None = None,
        decoder: str | None = None,
        base_url: str | None = None,
        timeout: float = 300,
        frugal: bool = False,
    ) -> RAG:
        """Open an index and load the models that answer from it.

        Args:
            index: the name or folder of an index (`index_folder`); None: the default index.
            method: how `ask` searches; `bm25` loads no embedder.
            rerank: what reorders the first hits: the name, folder or Hub id of a cross-encoder, `late` or `attention`,
                which the reader computes, the URL of a rerank API, `none`, or `auto`: the cross-encoder that goes with
                the index's embedder, if there is one.
            effort: how much `ask` searches: `low`, once; `medium`, also for what the first hits name, for questions
                that need several passages; `high`, also for the parts into which the model splits the question.
            where: the only passages to search, as an expression of their fields (`docs/filters.md`); None: all.
            model: decoder or CEPE reader: a registered name, a folder or a Hub id; behind an API, `openai:NAME` or
                `ollama:NAME`, which reads as `full`.
            attention_strategy: `project`, `cached`, `latent`, or `auto` for the cheapest.
            cache_size: limit on the passage encodings kept on disk, in GB; 0 keeps none.
            encodings: their number format.
            ratio: `extensible`: tokens for each embedding; None: the smallest number that it was trained with.
            device: a torch device, or `auto` to spread the decoder over all GPUs; None: a GPU if there is one. `cuda`
                (all GPUs) and `cuda:N` also search shards there, where FAISS can.
            dtype: number format of the models; None: the fastest on the device.
            backend: `torch`, `cpu` for graphs with 8-bit weights, or `auto`: `cpu` where there is no GPU.
            bits: 8 or 4 quantize the decoder's matrices (bitsandbytes).
            rope_scaling: `yarn:FACTOR` or `linear:FACTOR` stretches the decoder's positions over a longer window.
            decoder: a fine-tuned derivative of the reader's decoder, of equal shape and vocabulary, to take its place.
            base_url: address of the API (docs/apis.md); None: OPENAI_BASE_URL, OLLAMA_HOST, or their own.
            timeout: seconds that an API may stay silent.
            frugal: free the memory of each compiled model after its part of an answer; the next question opens it
                again.

        Raises:
            IndexFolderError: there is no index, it is damaged, or its embedder is not the one it was built with.
            ModelError, EndpointError: a model is missing, unusable or too large for the memory; an API fails.
            ConfigError: an argument is out of range.
        """
        values = {name: value for name, value in locals().items() if name in ModelOptions.model_fields}
        values["dtype"] = "auto" if dtype is None else str(dtype).removeprefix("torch.")
        options = checked(ModelOptions, values)
        checked(SearchOptions, {"method": method, "rerank": rerank, "effort": effort, "where": where})
        opened = open_index(index, method=method, device=device, dtype=options.dtype)
        opened.retriever.select(where)  # report a mistake before the models load
        loaded = cache(lambda: open_readers(options))
        embedder = opened.retriever.index.manifest.embedder.name
        reranker = open_reranker(rerank, device, embedder, lambda: loaded()[0].get("cepe"))
        readers, notes = loaded()
        return cls(
            opened,
            readers,
            method=method,
            reranker=reranker,
            where=where,
            effort=effort,
            frugal=frugal,
            notes=notes,
        )

    @classmethod
    def from_model(cls, options: ModelOptions | None = None) -> RAG:
        """Load models alone: `ask` reads `documents`, or nothing, and `read` passages of any origin.

        Raises:
            ModelError, EndpointError, ConfigError: as `from_index`.
        """
        readers, notes = open_readers(options or ModelOptions())
        return cls(None, readers, notes=notes)

    @property
    def retriever(self) -> Retriever:
        """The retriever of the newest generation; keep it while several searches must agree.

        Raises:
            ConfigError: there is no index.
        """
        if self._index is None:
            raise ConfigError("there is no index: open one with RAG.from_index")
        return self._index.retriever if isinstance(self._index, CurrentIndex) else self._index

    @span("ragx.ask")
    def ask(
        self,
        question: str,
        *,
        documents: Sequence[str | Path] | Sequence[Document] = (),
        examples: Sequence[Example] = (),
        history: Sequence[Message] = (),
        k: int = 60,
        method: SearchMethod | None = None,
        rerank: str | None = None,
        effort: Effort | None = None,
        where: str | None = None,
        reader: ReaderName | None = None,
        prompt_passages: int = PROMPT_PASSAGES,
        within: float | None = None,
        attention_shares: bool = False,
        marks: bool = False,
        refuse_below: float | None = None,
        sampling: SamplingParams | None = None,
        on_hits: Callable[[Sequence[Hit]], object] | None = None,
        on_encoded: OnEncoded | None = None,
        on_text: Callable[[str], object] | None = None,
        cancel: threading.Event | None = None,
        task: Task | None = None,
    ) -> Answer:
        """Answer a question from the index: `retrieve`, then `read`; or from whole documents.

        Args:
            question: the question, as text.
            documents: read these, files of any known format or `Document`s, instead of searching: their last passages
                in the prompt and all others in the encoder. The hits are their passages, the last one first.
            examples: questions and answers to imitate: the last two in the prompt, each of the others a chunk for the
                encoder; readers without one have as many in the prompt as fit.
            history: the conversation before a follow-up question: it is searched alone and with the questions in it,
                and the prompt repeats the last turns that fit.
            k: passages to retrieve and read (K).
            method: `dense`, `bm25` or `hybrid`; None: as given to `from_index`.
            rerank: as for `from_index`; None: as given to it.
            effort: as for `from_index`; None: as given to it.
            where: search only passages whose fields pass this too, besides the filter given to `from_index`.
            reader: how passages are read (`ReaderOptions`); None: what the model was trained for, or `full`.
            prompt_passages: how many passages, best first, also stand in the decoder's prompt.
            within: read only passages that the reranker scores at most this much below the best one; `math.inf`: all k;
                None: what the reader was measured best with, or all.
            attention_shares: report each passage's share of the attention in the answer.
            marks: `on_text` gets `Answer.marked_text`, with `[1]` after what the first citation supports.
            refuse_below: likelihood below which the answer says that no passage holds it (`ReaderOptions`); 0: never;
                None: the default.
            sampling: how the answer is decoded; None: greedy decoding.
            on_hits: called with the passages, best first, before they are read.
            on_encoded: called as passages are encoded, with the number of those done and of all that have to be.
            on_text: called with each piece of the answer as it is decoded.
            cancel: set it, in another thread, to end the answer early.
            task: how the prompt is worded: `ask(SUMMARISE, documents=…, task=SUMMARY)`, with both from
                `ragx.reader.task`, summarises documents; None: a question is answered.

        Raises:
            ConfigError: an argument is out of range, or the question does not fit into the decoder's window.
            CorpusError: a file cannot be read, or no document has text.
        """
        given = {} if refuse_below is None else {"refuse_below": refuse_below}
        values = {"reader": reader, "prompt_passages": prompt_passages, "attention_shares": attention_shares}
        options = checked(ReaderOptions, {**values, "marks": marks, "within": within, **given})
        start = time.perf_counter()
        if documents:
            hits = document_hits(documents, choose_reader(self.readers, options.reader))
            task = task or DOCUMENT
        elif self._index is None:
            hits, task = SearchResults(), task or PLAIN
        else:
            hits = self.retrieve(
                question, history=history, k=k, method=method, rerank=rerank, effort=effort, where=where
            )
            task = task or ANSWER
        hits = plausible(choose_reader(self.readers, options.reader), hits, options)
        took = time.perf_counter() - start
        if on_hits:
            on_hits(hits)
        if self.frugal and self._index is not None:
            for model in (self.retriever.embedder, self.reranker):
                if isinstance(model, Freeable):
                    model.free()
            trim_memory()
        answer = self.read(
            question,
            hits,
            history=history,
            options=options,
            sampling=sampling,
            on_encoded=on_encoded,
            on_text=on_text,
            cancel=cancel,
            task=replace(task, examples=tuple(examples)),
        )
        times = answer.timings
        timings = replace(times, retrieve=took, first_token=took + times.first_token, total=took + times.total)
        return replace(answer, timings=timings, notes=hits.notes + answer.notes)

    @span("ragx.retrieve")
    def retrieve(
        self,
        question: str,
        *,
        history: Sequence[Message] = (),
        k: int = 60,
        method: SearchMethod | None = None,
        rerank: str | None = None,
        effort: Effort | None = None,
        where: str | None = None,
    ) -> SearchResults[Hit]:
        """The k best passages for a question, best first; arguments and errors as `ask`."""
        given = {} if rerank is None else {"rerank": rerank}
        values = {"k": k, "method": method or self.method, "effort": effort or self.effort, "where": where}
        options = checked(SearchOptions, {**values, **given})
        retriever = self.retriever
        embedder = retriever.index.manifest.embedder.name
        reranker = self.reranker
        if given:
            reranker = open_reranker(options.rerank, embedder=embedder, reader=lambda: self.readers.get("cepe"))
        selected = retriever.select(self.where, options.where)
        queries = search_queries(question_text(question), history)
        search = partial(
            search_with_effort,
            retriever,
            queries,
            effort=options.effort,
            method=options.method,
            selected=selected,
            split=partial(split_question, self.readers),
        )
        hits = search_reranked(search, queries[0], options.k, reranker)
        number = len(retriever.index) if selected is None else int(selected.sum())
        if len(hits) < k and k > number:
            have = f"the index has {number} passages" if selected is None else f"{number} passages pass the filter"
            hits.notes.append(f"k is {k}, but {have}")
        return hits

    @report_oom()
    def read(
        self,
        question: str,
        hits: Sequence[Hit],
        *,
        history: Sequence[Message] = (),
        options: ReaderOptions | None = None,
        sampling: SamplingParams | None = None,
        on_encoded: OnEncoded | None = None,
        on_text: Callable[[str], object] | None = None,
        cancel: threading.Event | None = None,
        task: Task = ANSWER,
    ) -> Answer:
        """Answer a question from passages of any origin, best first; arguments and errors as `ask`."""
        options = options or ReaderOptions()
        pieces = read(
            choose_reader(self.readers, options.reader),
            question_text(question),
            hits,
            options=options,
            sampling=sampling or SamplingParams(),
            history=history,
            cancel=cancel,
            task=task,
            on_encoded=on_encoded,
        )
        with closing(pieces):
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    answer: Answer = end.value
                    return answer
                if on_text:
                    on_text(piece)

    def close(self) -> None:
        """Free the models; `ask` and `read` cannot be used afterwards."""
        for reader in self.readers.values():
            reader.close()
        self.readers = {}

    def __enter__(self) -> RAG:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
