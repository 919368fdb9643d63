"""What the language-modelling tasks share: scores of excerpts as figures over documents."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import Estimate, perplexity, ratio
from ragx.evaluation.documents import Excerpt
from ragx.evaluation.results import Values

if TYPE_CHECKING:
    from ragx.reader.cepe import CepeReader

SCORED = 256
"""Tokens at the end of an excerpt that are scored (paper section 3)."""


def by_document(excerpts: Sequence[Excerpt], values: Sequence[Values], name: str) -> list[float]:
    """The sum of a value over the excerpts of each document: excerpts of one document are no independent examples."""
    sums: dict[str, float] = defaultdict(float)
    for excerpt, value in zip(excerpts, values, strict=True):
        sums[excerpt.document] += value[name]
    return list(sums.values())


def perplexity_cells(
    excerpts: Sequence[Excerpt], values: Sequence[Values], baseline: Sequence[Values]
) -> tuple[Estimate, Estimate]:
    """Perplexity, and its ratio to the baseline's, whose interval is that of the same documents under both."""
    nlls, tokens = by_document(excerpts, values, "nll"), by_document(excerpts, values, "tokens")
    before = by_document(excerpts, baseline, "nll")
    change = ratio([after - nll for after, nll in zip(nlls, before, strict=True)], tokens)
    return perplexity(nlls, tokens), change.map(math.exp)


def check_decoder_tokens(reader: CepeReader, decoder_tokens: int, least: int) -> None:
    """Raise a `ConfigError` when the decoder cannot take so many tokens, or they are too few to score `SCORED`."""
    window = reader.model.config.max_position_embeddings
    if not least <= decoder_tokens <= window:
        raise ConfigError(f"decoder_tokens must be {least} to {window}, the decoder's window, not {decoder_tokens}")
