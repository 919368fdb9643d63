"""Retrieval-augmented language modelling (paper section 4.1, Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.errors import ConfigError
from ragx.evaluation.documents import Excerpt, sample_excerpts
from ragx.evaluation.perplexity import SCORED, check_decoder_tokens, perplexity_cells
from ragx.evaluation.scoring import score
from ragx.evaluation.tables import Cell, Table
from ragx.reader.prompt import passage_text
from ragx.retrieval.repeats import search_new
from ragx.util.device import report_oom

if TYPE_CHECKING:
    from ragx.evaluation.results import Results, Values
    from ragx.reader.cepe import CepeReader
    from ragx.retrieval import Retriever
    from ragx.retrieval.rerankers import Reranker
    from ragx.types import Passage, SearchMethod

QUERY = 256
"""Tokens before the scored ones that serve as the query (as many as in the paper)."""


@dataclass(frozen=True)
class _Setting:
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
    reranker: Reranker | None = None,
) -> Table:
    """Perplexity of the last 256 tokens, given k passages retrieved with the 256 tokens before them.

    Args:
        reader: the reader.
        documents: a file, folder or recipe.
        retriever: searches an index of other documents; passages that repeat the excerpt are skipped.
        method: how to search.
        results: raw results, to continue.
        decoder_tokens: tokens of the document in the decoder, including the query and the scored ones.
        ks: numbers of passages. Each gives a row with the passages in the encoder, and a row with them before the
            decoder's tokens: as many of the best as its window holds, the best one last.
        each: excerpts per document.
        limit: maximum number of documents.
        reranker: reorders the first passages of each search.

    Raises:
        ConfigError: a number is out of range.
        CorpusError: no document is long enough.
    """
    check_decoder_tokens(reader, decoder_tokens, QUERY + SCORED)
    if any(k < 0 for k in ks):
        raise ConfigError(f"k must not be negative, got {min(ks)}")
    counts = [k for k in ks if k]
    settings = [_Setting(0, False), *(_Setting(k, prepended) for prepended in (False, True) for k in counts)]
    excerpts, sample = sample_excerpts(documents, reader.tokenizer, length=decoder_tokens, each=each, limit=limit)
    values = [
        _measure(reader, excerpt, retriever, method, reranker, results, settings)
        for excerpt in tqdm(excerpts, desc="scoring", unit=" excerpts")
    ]
    by_setting = list(zip(*values, strict=True))
    rows: list[list[Cell]] = []
    for setting, setting_values in zip(settings, by_setting, strict=True):
        read = sum(value["passages"] for value in setting_values) / len(excerpts)
        cells = perplexity_cells(excerpts, setting_values, by_setting[0])
        rows.append([setting.name, setting.k, f"{read:.1f}", *cells])
    repeated = sum(value["repeats"] for value in by_setting[-1]) / len(excerpts)
    reranked = f", reranked by {reranker.name}" if reranker else ""
    notes = [
        f"Perplexity of the last {SCORED} tokens of {sample}; 95 % intervals over documents. Passages are retrieved"
        f" with the {QUERY} tokens before ({method} search{reranked}); {repeated:.1f} per excerpt repeated it and were"
        " skipped. cepe with k = 0 is the plain decoder."
    ]
    return Table({"reader": 0, "k": 0, "passages read": 0, "perplexity": 2, "÷ first row": 3}, rows, notes)


def _measure(
    reader: CepeReader,
    excerpt: Excerpt,
    retriever: Retriever,
    method: SearchMethod,
    reranker: Reranker | None,
    results: Results,
    settings: Sequence[_Setting],
) -> list[Values]:
    """Score the excerpt in each setting."""
    largest_k = max(setting.k for setting in settings)

    @lru_cache(maxsize=1)  # no search if all results are in the file
    def retrieved() -> tuple[list[Passage], int]:
        text = reader.tokenizer.decode(excerpt.ids)
        query = reader.tokenizer.decode(excerpt.ids[-SCORED - QUERY : -SCORED])
        return search_new(retriever, query, text, largest_k, method, reranker)

    def score_setting(setting: _Setting) -> Values:
        passages, repeated = retrieved() if setting.k else ([], 0)
        passages = passages[: setting.k]
        if setting.prepended:
            before, read = prepended_ids(reader, passages, len(excerpt.ids))
            scores = score(reader.model, [*before, *excerpt.ids], [], last=SCORED)
        else:
            read = len(passages)
            ids = [passage[: reader.window] for passage in reader.encoder_ids(passages)]
            scores = score(reader.model, excerpt.ids, ids, last=SCORED)
        return scores | {"passages": read, "repeats": repeated}

    return [
        results.measure(
            f"k {setting.k}{' prepended' if setting.prepended else ''}",
            f"{excerpt.key}+{len(excerpt.ids)}",
            partial(score_setting, setting),
        )
        for setting in settings
    ]


def prepended_ids(reader: CepeReader, passages: Sequence[Passage], tokens: int) -> tuple[list[int], int]:
    """Token ids of the best passages, as many as the window holds before `tokens` more; and their number."""
    room = reader.model.window - tokens
    before: list[int] = []
    read = 0
    for ids in reader.tokenizer.plain_ids([f"{passage_text(passage)}\n\n" for passage in passages]):
        if len(before) + len(ids) > room:
            break
        before = ids + before
        read += 1
    return before, read
