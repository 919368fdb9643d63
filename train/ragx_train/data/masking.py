"""Context masking (paper A.2): noise on what the encoder reads, so that passages of any length and number are seen."""

from __future__ import annotations

import numpy as np

from ragx.config import Settings
from ragx_train.settings import Share


class MaskingSettings(Settings):
    """Paper A.2; `chunk: 0` masks nothing."""

    chunk: Share = 0.3
    """Chance that a chunk is masked at all."""
    whole: Share = 0.1
    """Of the masked, chance that the whole chunk is; else a suffix of it, of a length drawn uniformly."""


def mask(passages: list[list[int]], settings: MaskingSettings, random: np.random.Generator) -> list[list[int]]:
    """`passages` less what is masked: what the encoder does not see might as well not be there.

    Each chunk C is masked with chance `settings.chunk`; then it goes as a whole with chance `settings.whole`, else it
    loses its last t tokens, t ~ U(1, |C|). None is left when all go.
    """
    kept = []
    for passage in passages:
        end = len(passage)
        if random.random() < settings.chunk:
            end = 0 if random.random() < settings.whole else end - int(random.integers(1, end + 1))
        if end:
            kept.append(passage[:end])
    return kept
