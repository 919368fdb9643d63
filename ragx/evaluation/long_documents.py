"""Long documents (paper section 3, Table 1): does what came before, in the encoder, help to predict what follows?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.errors import ConfigError
from ragx.evaluation.documents import Excerpt, chunks, cut
from ragx.evaluation.perplexity import SCORED, check_decoder_tokens, perplexity_cells
from ragx.evaluation.scoring import score
from ragx.evaluation.tables import Cell, Table
from ragx.util.device import report_oom

if TYPE_CHECKING:
    from ragx.evaluation.results import Results, Values
    from ragx.reader.cepe import CepeReader

CHUNK = 256
"""Tokens of a passage of the encoder (paper section 3)."""


@dataclass(frozen=True)
class _Reading:
    decoder: int
    """Tokens; those that are scored are the last of them."""
    encoder: int
    """Tokens before those in the decoder."""

    @property
    def name(self) -> str:
        return "cepe" if self.encoder else "plain decoder"


@report_oom()
def evaluate(
    reader: CepeReader,
    documents: Path,
    results: Results,
    *,
    decoder_tokens: int,
    encoder_tokens: Sequence[int],
    each: int,
    limit: int | None,
) -> Table:
    """Perplexity of the last 256 tokens, with more and more of the document before the decoder's tokens.

    Args:
        reader: the reader; without encoder tokens it is its plain decoder, exactly.
        documents: a file, folder or recipe; only documents long enough for every row are measured.
        results: raw results, to continue.
        decoder_tokens: tokens in the decoder, the scored ones included.
        encoder_tokens: for each row, tokens before them in the encoder, in chunks of 256; and, for a row each, before
            them in the plain decoder, where its window holds them.
        each: excerpts of one document.
        limit: documents at most.

    Raises:
        ConfigError: a number is out of range.
        CorpusError: no document is long enough.
    """
    check_decoder_tokens(reader, decoder_tokens, SCORED + 1)
    if any(tokens < 0 for tokens in encoder_tokens):
        raise ConfigError(f"encoder_tokens must not be negative, as {min(encoder_tokens)} is")
    more = [tokens for tokens in encoder_tokens if tokens]
    readings = [
        _Reading(decoder_tokens, 0),
        *(_Reading(decoder_tokens, tokens) for tokens in more),
        *(_Reading(decoder_tokens + tokens, 0) for tokens in more),
    ]
    length = decoder_tokens + max(more, default=0)
    excerpts, short = cut(documents, reader.tokenizer, length=length, each=each, limit=limit)
    window = reader.model.config.max_position_embeddings

    def measured(reading: _Reading, excerpt: Excerpt) -> Values:
        start = length - reading.decoder
        before, ids = excerpt.ids[start - reading.encoder : start], excerpt.ids[start:]
        setting = f"decoder {reading.decoder} encoder {reading.encoder}"
        example = f"{excerpt.key}+{length}"
        return results.measured(setting, example, lambda: score(reader.model, ids, chunks(before, CHUNK), last=SCORED))

    values: dict[_Reading, list[Values]] = {reading: [] for reading in readings if reading.decoder <= window}
    for excerpt in tqdm(excerpts, desc="scoring", unit=" excerpts"):
        for reading, scores in values.items():
            scores.append(measured(reading, excerpt))
    rows: list[list[Cell]] = []
    for reading in readings:
        cells: Sequence[Cell] = (None, None)
        if reading in values:
            cells = perplexity_cells(excerpts, values[reading], values[readings[0]])
        rows.append([reading.name, reading.decoder, reading.encoder, *cells])
    count = len({excerpt.document for excerpt in excerpts})
    notes = [
        f"Perplexity of the last {SCORED} tokens of {len(excerpts)} excerpts of {length} tokens from {count} documents"
        f" ({short} shorter ones left out); 95 % intervals over documents. cepe with nothing in the encoder is the"
        f" plain decoder; – is beyond the decoder's window of {window} tokens."
    ]
    columns = {"reading": 0, "in the decoder": 0, "in the encoder": 0, "perplexity": 2, "÷ first row": 3}
    return Table(columns, rows, notes)
