"""Shared by the language-modelling tasks: scores of excerpts become figures over documents."""

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
"""Tokens scored at the end of an excerpt (paper section 3)."""


def by_document(excerpts: Sequence[Excerpt], values: Sequence[Values], name: str) -> list[float]:
    """Sum a value over the excerpts of each document, because these are not independent examples."""
    sums: dict[str, float] = defaultdict(float)
    for excerpt, value in zip(excerpts, values, strict=True):
        sums[excerpt.document] += value[name]
    return list(sums.values())


def perplexity_cells(
    excerpts: Sequence[Excerpt], values: Sequence[Values], baseline: Sequence[Values]
) -> tuple[Estimate, Estimate]:
    """Perplexity, and its ratio to the baseline's, whose interval resamples the same documents for both."""
    nlls, tokens = by_document(excerpts, values, "nll"), by_document(excerpts, values, "tokens")
    baseline_nlls = by_document(excerpts, baseline, "nll")
    change = ratio([nll - before for nll, before in zip(nlls, baseline_nlls, strict=True)], tokens)
    return perplexity(nlls, tokens), change.map(math.exp)


def check_decoder_tokens(reader: CepeReader, decoder_tokens: int, least: int) -> None:
    """Raise a `ConfigError` unless `decoder_tokens` is at least `least` and fits into the decoder's window."""
    window = reader.model.window
    if not least <= decoder_tokens <= window:
        raise ConfigError(
            f"decoder_tokens must be between {least} and the decoder's window of {window}, got {decoder_tokens}"
        )
