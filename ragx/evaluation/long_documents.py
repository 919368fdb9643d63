"""Long documents (paper section 3, Table 1): does earlier text in the encoder help to predict what follows?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tqdm import tqdm

from ragx.errors import ConfigError
from ragx.evaluation.documents import Excerpt, chunks, sample_excerpts
from ragx.evaluation.perplexity import SCORED, check_decoder_tokens, perplexity_cells
from ragx.evaluation.scoring import score
from ragx.evaluation.tables import Cell, Table
from ragx.extensible.embedder import choose_ratio, embedder_of
from ragx.util.device import report_oom

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.evaluation.results import Results, Values
    from ragx.reader.cepe import CepeReader

CHUNK = 256
"""Tokens per passage in the encoder (paper section 3)."""


@dataclass(frozen=True)
class _Setting:
    decoder: int
    """Tokens in the decoder, the scored ones last."""
    encoder: int
    """Tokens in the encoder, or embeddings, which precede those in the decoder."""
    ratio: int | None = None
    """Tokens for each embedding; None: they are in the encoder."""

    @property
    def places(self) -> int:
        """Of the decoder's window."""
        return self.decoder + (0 if self.ratio is None else -(-self.encoder // self.ratio))

    @property
    def reader(self) -> str:
        """Its name in the table."""
        if not self.encoder:
            return "plain decoder"
        return "cepe" if self.ratio is None else f"extensible, ratio {self.ratio}"


@report_oom()
def evaluate(
    reader: CepeReader,
    documents: Path,
    results: Results,
    *,
    decoder_tokens: int,
    encoder_tokens: Sequence[int],
    ratios: Sequence[int] = (),
    each: int,
    limit: int | None,
) -> Table:
    """Perplexity of the last 256 tokens, with increasing amounts of earlier text.

    Args:
        reader: the reader; without encoder tokens it is exactly its plain decoder.
        documents: a file, folder or recipe; only documents long enough for every row are measured.
        results: raw results, to continue.
        decoder_tokens: tokens in the decoder, including the scored ones.
        encoder_tokens: for each row, earlier tokens in the encoder, in chunks of 256. For each, another row has these
            tokens in the plain decoder instead, if its window holds them.
        ratios: instead of the encoder, an embedder reads the earlier tokens; for each, its own rows. Empty: those that
            a model with an embedder was trained with.
        each: excerpts per document.
        limit: maximum number of documents.

    Raises:
        ConfigError: a number is out of range.
        CorpusError: no document is long enough.
    """
    check_decoder_tokens(reader, decoder_tokens, SCORED + 1)
    if any(tokens < 0 for tokens in encoder_tokens):
        raise ConfigError(f"encoder_tokens must not be negative, got {min(encoder_tokens)}")
    counts = [tokens for tokens in encoder_tokens if tokens]
    model, size = cast("CepeModel", reader.model), CHUNK
    of_rows: Sequence[int | None] = (None,)
    if ratios or getattr(model, "extensible", None) is not None:
        size = embedder_of(model).settings.chunk
        of_rows = [choose_ratio(model, ratio) for ratio in ratios or embedder_of(model).settings.ratios]
    settings = [
        _Setting(decoder_tokens, 0),
        *(_Setting(decoder_tokens, tokens, ratio) for ratio in of_rows for tokens in counts),
        *(_Setting(decoder_tokens + tokens, 0) for tokens in counts),
    ]
    length = decoder_tokens + max(counts, default=0)
    excerpts, sample = sample_excerpts(documents, reader.tokenizer, length=length, each=each, limit=limit)
    window = reader.model.window

    def measure(setting: _Setting, excerpt: Excerpt) -> Values:
        start = length - setting.decoder
        before, ids = excerpt.ids[start - setting.encoder : start], excerpt.ids[start:]
        ratio = "" if setting.ratio is None else f" ratio {setting.ratio}"
        return results.measure(
            f"decoder {setting.decoder} encoder {setting.encoder}{ratio}",
            f"{excerpt.key}+{length}",
            lambda: score(model, ids, chunks(before, size), last=SCORED, ratio=setting.ratio),
        )

    values: dict[_Setting, list[Values]] = {setting: [] for setting in settings if setting.places <= window}
    for excerpt in tqdm(excerpts, desc="scoring", unit=" excerpts"):
        for setting, scores in values.items():
            scores.append(measure(setting, excerpt))
    rows: list[list[Cell]] = []
    for setting in settings:
        cells: Sequence[Cell] = (None, None)
        if setting in values:
            cells = perplexity_cells(excerpts, values[setting], values[settings[0]])
        rows.append([setting.reader, setting.decoder, setting.encoder, *cells])
    notes = [
        f"Perplexity of the last {SCORED} tokens of {sample}; 95 % intervals over documents. A reader with"
        f" nothing in the encoder is the plain decoder; – exceeds the decoder's window of {window} tokens."
    ]
    columns = {"reader": 0, "in the decoder": 0, "in the encoder": 0, "perplexity": 2, "÷ first row": 3}
    return Table(columns, rows, notes)
