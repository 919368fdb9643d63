"""Retrieval-augmented language modelling (paper section 4.1, Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.errors import ConfigError
from ragx.evaluation.documents import Excerpt, cut
from ragx.evaluation.perplexity import SCORED, check_decoder_tokens, perplexity_cells
from ragx.evaluation.scoring import score
from ragx.evaluation.tables import Cell, Table
from ragx.reader.prompt import passage_text
from ragx.retrieval.repeats import search_new
from ragx.util.device import report_oom
from ragx.util.tokenization import plain_ids

if TYPE_CHECKING:
    from ragx.evaluation.results import Results, Values
    from ragx.reader.cepe import CepeReader
    from ragx.retrieval import Retriever
    from ragx.types import Passage, SearchMethod

QUERY = 256
"""Tokens before the scored ones that passages are searched for with (the paper's query is as long)."""


@dataclass(frozen=True)
class _Reading:
    k: int
    prepended: bool

    @property
    def name(self) -> str:
        if not self.k:
            return "plain decoder"
        return "plain decoder, passages prepended" if self.prepended else "cepe, passages in the encoder"


@report_oom()
def evaluate(
    reader: CepeReader,
    documents: Path,
    retriever: Retriever,
    method: SearchMethod,
    results: Results,
    *,
    decoder_tokens: int,
    ks: Sequence[int],
    each: int,
    limit: int | None,
) -> Table:
    """Perplexity of the last 256 tokens, given k passages that the 256 tokens before them retrieve.

    Args:
        reader: the reader.
        documents: a file, folder or recipe.
        retriever: searches an index of other documents; a passage that repeats the excerpt is passed over.
        method: how it searches.
        results: raw results, to continue.
        decoder_tokens: tokens of the document in the decoder, query and scored ones included.
        ks: passages retrieved, in the encoder; and, for a row each, prepended to the decoder's tokens, as many from the
            best on as its window holds, the best one last.
        each: excerpts of one document.
        limit: documents at most.

    Raises:
        ConfigError: a number is out of range.
        CorpusError: no document is long enough.
    """
    check_decoder_tokens(reader, decoder_tokens, QUERY + SCORED)
    if any(k < 0 for k in ks):
        raise ConfigError(f"k must not be negative, as {min(ks)} is")
    more = [k for k in ks if k]
    readings = [_Reading(0, False), *(_Reading(k, prepended) for prepended in (False, True) for k in more)]
    excerpts, short = cut(documents, reader.tokenizer, length=decoder_tokens, each=each, limit=limit)
    values: dict[_Reading, list[Values]] = {reading: [] for reading in readings}
    for excerpt in tqdm(excerpts, desc="scoring", unit=" excerpts"):
        for reading, found in zip(
            readings, _measure(reader, excerpt, retriever, method, results, readings), strict=True
        ):
            values[reading].append(found)
    rows: list[list[Cell]] = []
    for reading in readings:
        read = sum(value["passages"] for value in values[reading]) / len(excerpts)
        cells = perplexity_cells(excerpts, values[reading], values[readings[0]])
        rows.append([reading.name, reading.k, f"{read:.1f}", *cells])
    count = len({excerpt.document for excerpt in excerpts})
    repeats = sum(value["repeats"] for value in values[readings[-1]]) / len(excerpts)
    notes = [
        f"Perplexity of the last {SCORED} of {decoder_tokens} tokens in the decoder, {len(excerpts)} excerpts from"
        f" {count} documents ({short} shorter ones left out); 95 % intervals over documents. Passages are those for the"
        f" {QUERY} tokens before ({method}); {repeats:.1f} an excerpt repeated it and were passed over. cepe with k = 0"
        " is the plain decoder."
    ]
    return Table({"reading": 0, "k": 0, "passages read": 0, "perplexity": 2, "÷ first row": 3}, rows, notes)


def _measure(
    reader: CepeReader,
    excerpt: Excerpt,
    retriever: Retriever,
    method: SearchMethod,
    results: Results,
    readings: Sequence[_Reading],
) -> list[Values]:
    """The excerpt's score under each reading; passages are retrieved once, and only if one is to be measured."""
    most = max(reading.k for reading in readings)

    @lru_cache(maxsize=1)
    def passages() -> tuple[list[Passage], int]:
        text, query = reader.tokenizer.batch_decode([excerpt.ids, excerpt.ids[-SCORED - QUERY : -SCORED]])
        return search_new(retriever, query, text, most, method)

    def measure(reading: _Reading) -> Values:
        found, repeated = passages() if reading.k else ([], 0)
        found = found[: reading.k]
        if reading.prepended:
            before, read = _prepended(reader, found, len(excerpt.ids))
            scores = score(reader.model, [*before, *excerpt.ids], [], last=SCORED)
        else:
            read = len(found)
            ids = [passage[: reader.window] for passage in reader.encoder_ids(found)]
            scores = score(reader.model, excerpt.ids, ids, last=SCORED)
        return scores | {"passages": read, "repeats": repeated}

    def measured(reading: _Reading) -> Values:
        setting = f"k {reading.k}{' prepended' if reading.prepended else ''}"
        return results.measured(setting, f"{excerpt.key}+{len(excerpt.ids)}", lambda: measure(reading))

    return [measured(reading) for reading in readings]


def _prepended(reader: CepeReader, passages: Sequence[Passage], tokens: int) -> tuple[list[int], int]:
    """Token ids of as many passages, from the best on, as the window holds before `tokens` more; and how many."""
    room = reader.model.config.max_position_embeddings - tokens
    before: list[int] = []
    read = 0
    for ids in plain_ids(reader.tokenizer, [f"{passage_text(passage)}\n\n" for passage in passages]):
        if len(before) + len(ids) > room:
            break
        before = ids + before
        read += 1
    return before, read
