"""RetDoc: as CEPE, but what the encoder reads are passages retrieved for the text (paper 7.1, E.1).

The first 256 tokens of the decoder's sequence are the query, and the index is made of documents that are not trained
on: `ragx train split` writes them, `ragx index build` indexes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from ragx.index.manifest import Manifest, lexical_files
from ragx.rag import open_index
from ragx.reader.prompt import passage_text
from ragx.retrieval import Retriever
from ragx.types import SearchMethod
from ragx.util.tokenization import plain_ids
from ragx_train.data.documents import Corpus, Split, open_corpus
from ragx_train.data.example import Example, following
from ragx_train.data.masking import MaskingSettings, mask
from ragx_train.data.sequences import Sequences
from ragx_train.engine.loop import Run, train
from ragx_train.engine.model import reader_to_train
from ragx_train.settings import DocumentSettings, RecipeSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPARE = 50
"""Passages retrieved beyond those wanted, to take the place of those that repeat the text."""
REPEATED = 24
"""Words in a row, some 32 tokens, that a passage has in common with a text only if it is a copy of a part of it."""


class RetdocSettings(RecipeSettings):
    """`ragx train retdoc`."""

    data: DocumentSettings
    index: str
    """The folder of an index of documents that are not trained on."""
    method: SearchMethod = "dense"
    """How it is searched."""
    decoder_tokens: int = Field(default=4096, ge=2)
    """In a sequence (n in the paper)."""
    query_tokens: int = Field(default=256, ge=1)
    """The first so many tokens of a sequence are the query."""
    passages: int = Field(default=16, ge=1)
    """Retrieved for a sequence (k in the paper)."""
    passage_tokens: int = Field(default=256, ge=1)
    """A longer passage is cut."""
    masking: MaskingSettings = MaskingSettings()

    @model_validator(mode="after")
    def _the_index_is_searched_here(self) -> RetdocSettings:
        if self.loop.workers:
            raise ValueError("loop.workers must be 0: an index cannot be searched in forked processes")
        return self


def run(settings: RetdocSettings, run: Run) -> None:
    """Train a reader to continue text with the help of retrieved passages."""
    retriever = open_index(Path(settings.index).expanduser(), method=settings.method).retriever
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    corpus = open_corpus(settings.data, tokenizer)
    example, validation = examples(settings, corpus, tokenizer, retriever)
    fingerprints = {"data.sources": corpus.fingerprint(), "index": fingerprint(retriever.index.manifest)}
    train(settings, run, model, example, validation, fingerprints)


def fingerprint(manifest: Manifest) -> str:
    """SHA-256 of what a manifest says of passages, vectors and settings, in hexadecimal.

    The lexical index follows from these, and its files have other names and bytes in every build.
    """
    content = manifest.model_dump(mode="json", exclude={"created": True, "files": set(lexical_files(manifest))})
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def examples(
    settings: RetdocSettings, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, retriever: Retriever
) -> tuple[Callable[[int], Example], list[Example]]:
    """The example at a position, with its passages masked, and those for validation, with nothing masked."""
    seed = settings.loop.seed

    def sequences(split: Split) -> Sequences:
        return Sequences(corpus, settings.data, tokenizer, length=settings.decoder_tokens, split=split, seed=seed)

    def reading(sequence: tuple[list[int], str], random: np.random.Generator | None = None) -> Example:
        ids, origin = sequence
        passages = retrieved(ids, settings, tokenizer, retriever)
        if random is not None:
            passages = mask(passages, settings.masking, random)
        return Example(ids, following(ids), passages, origin)

    training, held_out = sequences("train"), sequences("test")
    validation = [reading(held_out[n]) for n in range(min(settings.loop.validation_examples, held_out.size))]
    return lambda position: reading(training[position], np.random.default_rng([seed, position])), validation


def retrieved(
    ids: list[int], settings: RetdocSettings, tokenizer: PreTrainedTokenizerFast, retriever: Retriever
) -> list[list[int]]:
    """Token ids of the best passages for the beginning of `ids` that do not repeat `ids`; the best one first."""
    query, text = tokenizer.batch_decode([ids[: settings.query_tokens], ids], skip_special_tokens=True)
    hits = retriever.search(query, settings.passages + SPARE, settings.method)
    fresh = [passage_text(hit.passage) for hit in hits if not repeats(hit.passage.text, text)]
    read = [passage[: settings.passage_tokens] for passage in plain_ids(tokenizer, fresh[: settings.passages])]
    return [passage for passage in read if passage]


def repeats(passage: str, text: str) -> bool:
    """Whether a passage has a run of `REPEATED` words in common with a text, or, if it is shorter, all its words."""
    read, words = passage.lower().split(), text.lower().split()
    size = min(REPEATED, len(read))
    return not _runs(read, size).isdisjoint(_runs(words, size))


def _runs(words: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}
