"""Copying (the paper's warmup, A.2): can the decoder repeat unseen text that only the encoder reads?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.evaluation.bootstrap import ratio
from ragx.evaluation.documents import Excerpt, chunks, sample_excerpts
from ragx.evaluation.perplexity import by_document
from ragx.evaluation.scoring import score
from ragx.evaluation.tables import Cell, Table
from ragx.util.device import report_oom

if TYPE_CHECKING:
    from ragx.evaluation.results import Results, Values
    from ragx.reader.cepe import CepeReader

TOKENS, CHUNK = 256, 64
"""Tokens per excerpt, and per passage in the encoder."""


@report_oom()
def evaluate(reader: CepeReader, documents: Path, results: Results, *, each: int, limit: int | None) -> Table:
    """Teacher-forced loss and top-1 accuracy on 256 tokens, with and without the same text in the encoder.

    The first token is not scored, because no token precedes it.

    Args:
        reader: the reader.
        documents: a file, folder or recipe.
        results: raw results, to continue.
        each: excerpts per document.
        limit: maximum number of documents.

    Raises:
        CorpusError: no document is long enough.
    """
    excerpts, sample = sample_excerpts(documents, reader.tokenizer, length=TOKENS, each=each, limit=limit)

    def measure(setting: str, excerpt: Excerpt) -> Values:
        passages = chunks(excerpt.ids, CHUNK) if setting == "encoder" else []
        return results.measure(
            setting, excerpt.key, lambda: score(reader.model, excerpt.ids, passages, last=TOKENS - 1)
        )

    with_text: list[Values] = []
    without_text: list[Values] = []
    for excerpt in tqdm(excerpts, desc="copying", unit=" excerpts"):
        with_text.append(measure("encoder", excerpt))
        without_text.append(measure("nothing", excerpt))
    rows: list[list[Cell]] = []
    for name, scores in (("the same text", with_text), ("nothing (the plain decoder)", without_text)):
        tokens = by_document(excerpts, scores, "tokens")
        accuracy = ratio(by_document(excerpts, scores, "correct"), tokens).map(lambda share: 100 * share)
        rows.append([name, ratio(by_document(excerpts, scores, "nll"), tokens), accuracy])
    notes = [f"{sample}, in the encoder as chunks of {CHUNK}; 95 % intervals over documents."]
    return Table({"in the encoder": 0, "loss (nats per token)": 3, "top-1 accuracy (%)": 1}, rows, notes)
