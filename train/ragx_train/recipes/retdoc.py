"""RetDoc: as CEPE, but the encoder reads passages retrieved for the text (paper 7.1, E.1).

The first 256 tokens of the decoder's sequence are the query. The index holds documents that are not trained on:
`ragx train split` writes them, `ragx index build` indexes them. `ragx train retrieve` searches for a whole run in
advance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from ragx.index import Index
from ragx.models import resolve
from ragx.reader.prompt import passage_text
from ragx.retrieval import Retriever, open_embedder
from ragx.retrieval.repeats import search_new
from ragx.types import SearchMethod
from ragx.util.tokenization import load_tokenizer
from ragx_train.data.documents import Corpus, open_corpus
from ragx_train.data.example import Example, next_tokens
from ragx_train.data.masking import MaskingSettings, mask
from ragx_train.data.retrieved import Retrieved, identity, token_type, write_retrieved
from ragx_train.data.sequences import train_and_test
from ragx_train.engine.loop import Run, train
from ragx_train.engine.model import reader_to_train
from ragx_train.settings import DocumentSettings, RecipeSettings

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer


class RetdocSettings(RecipeSettings):
    """`ragx train retdoc`."""

    data: DocumentSettings
    index: str
    """Folder of an index of documents that are not trained on."""
    retrieved: str | None = None
    """Folder that `ragx train retrieve` has written; null: the index is searched in training."""
    method: SearchMethod = "dense"
    """How the index is searched."""
    decoder_tokens: int = Field(default=4096, ge=2)
    """Tokens in a sequence (n in the paper)."""
    query_tokens: int = Field(default=256, ge=1)
    """Tokens at the start of a sequence that are the query."""
    passages: int = Field(default=16, ge=1)
    """Passages retrieved for a sequence (k in the paper)."""
    passage_tokens: int = Field(default=256, ge=1)
    """Longer passages are truncated."""
    masking: MaskingSettings = MaskingSettings()

    @model_validator(mode="after")
    def _no_workers(self) -> RetdocSettings:
        if self.loop.workers and self.retrieved is None:
            raise ValueError("loop.workers must be 0 without `retrieved`: forked processes cannot search an index")
        return self


def run(settings: RetdocSettings, run: Run) -> None:
    """Train a reader to continue text with retrieved passages."""
    retriever = open_retriever(settings) if settings.retrieved is None else None
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    corpus = open_corpus(settings.data, tokenizer)
    if settings.retrieved is not None:
        source: Retriever | Retrieved = Retrieved(Path(settings.retrieved).expanduser(), settings, corpus, tokenizer)
    else:
        source = retriever or open_retriever(settings)
    example, validation = examples(settings, corpus, tokenizer, source)
    own = source.fingerprint() if isinstance(source, Retrieved) else source.index.manifest.fingerprint()
    train(settings, run, model, example, validation, {"data.sources": corpus.fingerprint(), "index": own})


def retrieve_all(settings: RetdocSettings, out: Path, deadline: float | None = None) -> bool:
    """Search for every example of a run, or continue to; returns whether all are written to the folder `out`.

    Raises:
        ConfigError, OutputError, Interrupted: as `write_retrieved`.
    """
    retriever = open_retriever(settings)
    tokenizer = load_tokenizer(resolve(settings.model.decoder, "decoder"))
    corpus = open_corpus(settings.data, tokenizer)
    training, test = train_and_test(corpus, settings.data, settings.loop, tokenizer, length=settings.decoder_tokens)
    info = identity(settings, corpus, tokenizer) | {
        "index": retriever.index.manifest.fingerprint(),
        "dtype": token_type(tokenizer),
    }
    return write_retrieved(
        out,
        settings,
        info,
        lambda position: training[position][0],
        [ids for ids, _ in test],
        lambda ids: retrieve(ids, settings, tokenizer, retriever),
        deadline,
    )


def open_retriever(settings: RetdocSettings) -> Retriever:
    """The retriever of `settings.index`, with the embedder that the index was built with.

    Raises:
        IndexFolderError: there is no index, or it is damaged.
        ModelError: the embedder is missing or unusable.
    """
    index = Index.open(Path(settings.index).expanduser())
    return Retriever(index, None if settings.method == "bm25" else open_embedder(index.manifest.embedder.name))


def examples(
    settings: RetdocSettings, corpus: Corpus, tokenizer: Tokenizer, source: Retriever | Retrieved
) -> tuple[Callable[[int], Example], list[Example]]:
    """A function from a position to an example with masked passages, and unmasked examples for validation."""
    training, test = train_and_test(corpus, settings.data, settings.loop, tokenizer, length=settings.decoder_tokens)

    def example(position: int) -> Example:
        ids, origin = training[position]
        random = np.random.default_rng([settings.loop.seed, position])
        if isinstance(source, Retrieved):
            passages = source.training(position)
        else:
            passages = retrieve(ids, settings, tokenizer, source)
        return Example(ids, next_tokens(ids), mask(passages, settings.masking, random), origin)

    def held_out(number: int) -> Example:
        ids, origin = test[number]
        if isinstance(source, Retrieved):
            passages = source.validation(number)
        else:
            passages = retrieve(ids, settings, tokenizer, source)
        return Example(ids, next_tokens(ids), passages, origin)

    return example, list(map(held_out, range(len(test))))


def retrieve(
    ids: Sequence[int], settings: RetdocSettings, tokenizer: Tokenizer, retriever: Retriever
) -> list[list[int]]:
    """Token ids of the best passages for the beginning of `ids` that do not repeat `ids`, best first."""
    query = tokenizer.decode(ids[: settings.query_tokens], skip_special_tokens=True)
    text = tokenizer.decode(ids, skip_special_tokens=True)
    passages, _ = search_new(retriever, query, text, settings.passages, settings.method)
    texts = [passage_text(passage) for passage in passages[: settings.passages]]
    truncated = [passage[: settings.passage_tokens] for passage in tokenizer.plain_ids(texts)]
    return [passage for passage in truncated if passage]
