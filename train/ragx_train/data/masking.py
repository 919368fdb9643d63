"""Context masking (paper A.2): drop parts of what the encoder reads, so that it learns from any number of tokens."""

from __future__ import annotations

import numpy as np

from ragx.util.settings import Settings
from ragx_train.settings import Share


class MaskingSettings(Settings):
    """Paper A.2; `chunk: 0` masks nothing."""

    chunk: Share = 0.3
    """Probability that a chunk is masked."""
    whole: Share = 0.1
    """Probability that a masked chunk is dropped whole; otherwise a suffix of uniformly random length is."""


def mask(passages: list[list[int]], settings: MaskingSettings, random: np.random.Generator) -> list[list[int]]:
    """`passages` without their masked tokens: removing what the encoder may not see is exact.

    Each chunk C is masked with probability `settings.chunk`. It is then dropped with probability `settings.whole`, or
    else loses its last t tokens, t ~ U(1, |C|). The result is empty if all are dropped.
    """
    kept = []
    for passage in passages:
        end = len(passage)
        if random.random() < settings.chunk:
            end = 0 if random.random() < settings.whole else end - int(random.integers(1, end + 1))
        if end:
            kept.append(passage[:end])
    return kept
