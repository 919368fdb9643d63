"""Sampler: chooses the next token as transformers' `generate` would, with its own random generator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ragx.config import SamplingParams


class Sampler:
    """Samples the tokens of one answer; its random generator is independent of other answers."""

    def __init__(self, sampling: SamplingParams, device: torch.device) -> None:
        self.samples = not sampling.is_greedy
        self.penalises = sampling.repetition_penalty != 1
        self.processors = LogitsProcessorList()
        if self.penalises:
            self.processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        if self.samples:  # in the order of `generate`
            self.processors.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                self.processors.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                self.processors.append(TopPLogitsWarper(sampling.top_p))
            if sampling.min_p:
                self.processors.append(MinPLogitsWarper(sampling.min_p))
        self.random = torch.Generator(device)
        if sampling.seed is None:
            self.random.seed()
        else:
            self.random.manual_seed(sampling.seed)

    def choose(self, logits: Tensor, before: Sequence[Sequence[int]]) -> int:
        """Choose a token from logits (1, V); `before` holds the tokens before it, in one or several runs."""
        if not self.samples and not self.penalises:
            return int(logits.argmax())
        ids = torch.tensor([list(chain(*before)) if self.penalises else []], dtype=torch.long, device=logits.device)
        scores: Tensor = self.processors(ids, logits.float())  # type: ignore[arg-type]
        if not self.samples:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(dim=-1), 1, generator=self.random))
