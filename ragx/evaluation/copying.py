"""Copying (the paper's warmup, A.2): can the decoder repeat unseen text that stands in the encoder alone?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.evaluation.bootstrap import ratio
from ragx.evaluation.documents import Excerpt, chunks, cut
from ragx.evaluation.perplexity import by_document
from ragx.evaluation.scoring import score
from ragx.evaluation.tables import Cell, Table
from ragx.util.device import report_oom

if TYPE_CHECKING:
    from ragx.evaluation.results import Results, Values
    from ragx.reader.cepe import CepeReader

TOKENS, CHUNK = 256, 64
"""Of an excerpt, and of a passage of the encoder."""


@report_oom()
def evaluate(reader: CepeReader, documents: Path, results: Results, *, each: int, limit: int | None) -> Table:
    """Teacher-forced loss and top-1 accuracy on 256 tokens, which stand in the encoder as 4 chunks of 64, or do not.

    The first token, before which there is none, is not scored.

    Args:
        reader: the reader.
        documents: a file, folder or recipe.
        results: raw results, to continue.
        each: excerpts of one document.
        limit: documents at most.

    Raises:
        CorpusError: no document is long enough.
    """
    excerpts, short = cut(documents, reader.tokenizer, length=TOKENS, each=each, limit=limit)

    def measured(setting: str, excerpt: Excerpt) -> Values:
        passages = chunks(excerpt.ids, CHUNK) if setting == "encoder" else []
        return results.measured(
            setting, excerpt.key, lambda: score(reader.model, excerpt.ids, passages, last=TOKENS - 1)
        )

    inside: list[Values] = []
    without: list[Values] = []
    for excerpt in tqdm(excerpts, desc="copying", unit=" excerpts"):
        inside.append(measured("encoder", excerpt))
        without.append(measured("nothing", excerpt))
    rows: list[list[Cell]] = []
    for name, scores in (("the same text", inside), ("nothing (the plain decoder)", without)):
        tokens = by_document(excerpts, scores, "tokens")
        accuracy = ratio(by_document(excerpts, scores, "correct"), tokens).map(lambda share: 100 * share)
        rows.append([name, ratio(by_document(excerpts, scores, "nll"), tokens), accuracy])
    count = len({excerpt.document for excerpt in excerpts})
    notes = [
        f"{len(excerpts)} excerpts of {TOKENS} tokens from {count} documents ({short} shorter ones left out), in the"
        f" encoder as chunks of {CHUNK}; 95 % intervals over documents."
    ]
    return Table({"in the encoder": 0, "loss (nats a token)": 3, "top-1 accuracy (%)": 1}, rows, notes)
