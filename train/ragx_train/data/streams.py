"""Streams of training examples: each maps a position to an example, always the same one, and several can be mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ragx_train.data.example import Example, chunks, next_tokens
from ragx_train.data.masking import MaskingSettings, mask
from ragx_train.data.mixing import pick
from ragx_train.data.sequences import Sequence as Tokens

Stream = Callable[[int], Example]


def reconstruction(sequence: Tokens, chunk: int) -> Example:
    """Encoder and decoder read the same tokens, the encoder in chunks (paper 2.3, A.2)."""
    ids, origin = sequence
    return Example(ids, next_tokens(ids), chunks(ids, chunk), origin)


def continuation(sequence: Tokens, chunk: int, encoder_tokens: int) -> Example:
    """The encoder reads the first tokens of a sequence in chunks, the decoder the others (paper 2.3, A.2)."""
    ids, origin = sequence
    before, after = ids[:encoder_tokens], ids[encoder_tokens:]
    return Example(after, next_tokens(after), chunks(before, chunk), origin, before)


def masked(example: Example, settings: MaskingSettings, random: np.random.Generator) -> Example:
    """The example without the masked parts of its passages."""
    return replace(example, passages=mask(example.passages, settings, random))


def mixed(streams: Sequence[Stream], weights: Sequence[int]) -> Stream:
    """Several streams, evenly interleaved: `weights[i]` of every sum(weights) examples are from stream i."""

    def example(position: int) -> Example:
        source, index = pick(weights, position)
        return streams[source](index)

    return example


def chunk_count(progress: float, most: int, random: np.random.Generator) -> int:
    """How many chunks an example has in a curriculum: first one, then up to 2, 4, 8 and so on.

    Half of the examples have the largest number so far, which is `most` in the last quarter of the curriculum; the
    others have any smaller power of two, so that short contexts are not forgotten.

    Args:
        progress: share of the curriculum that is over, from 0 to 1.
        most: chunks of the longest example.
        random: of the example.
    """
    levels = [1 << level for level in range((most - 1).bit_length())] + [most]
    highest = min(len(levels) - 1, int(progress * len(levels) * 4 / 3))
    return levels[highest] if random.random() < 0.5 else levels[int(random.integers(highest + 1))]
