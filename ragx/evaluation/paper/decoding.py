"""Answers of the tables, decoded also where `Reader.stream` would end them: beyond the window, or before 10 tokens."""

from __future__ import annotations

import threading
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from ragx.config import SamplingParams
from ragx.engine.decoding import AnswerStream
from ragx.engine.sampling import Sampler
from ragx.evaluation.paper.contest import Contestant
from ragx.evaluation.results import Values
from ragx.reader.base import PreparedPrompt
from ragx.reader.full import FullReader


class AtLeast:
    """A constraint of sampling: an answer does not end before so many tokens."""

    def __init__(self, tokens: int, ends: Collection[int]) -> None:
        self.missing, self.ends = tokens, ends

    def allowed(self, count: int) -> NDArray[np.bool_]:
        """All tokens, but not those that end an answer before it is long enough."""
        allowed = np.ones(count, dtype=np.bool_)
        if self.missing > 0:
            allowed[[token for token in self.ends if token < count]] = False
        return allowed

    def accept(self, token: int) -> None:
        """Count a token."""
        del token
        self.missing -= 1


def decode(contestant: Contestant, prepared: PreparedPrompt, sampling: SamplingParams, *, shortest: int = 0) -> Values:
    """The `answer` without surrounding white space, and `read_tokens`.

    The prompt is read whole: an engine of its own has no earlier prompts, whose beginnings rows share.
    """
    reader = FullReader(contestant.model, contestant.tokenizer)
    sampler = Sampler(sampling, AtLeast(shortest, reader.ends) if shortest else None)
    prompt, state = prepared.prompt.ids, prepared.layout or prepared.context
    ids = reader.batch.generate(prompt, state, sampling, threading.Event(), sampler)
    text = "".join(AnswerStream(ids, reader.ends, reader.tokenizer, sampler)).strip()
    reader.close()
    return {"answer": text, "read_tokens": len(prompt) + prepared.context_tokens}
