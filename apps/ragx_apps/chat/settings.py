"""A visitor's settings."""

from __future__ import annotations

from typing import Any, get_args

from pydantic.dataclasses import dataclass

from ragx.config import SamplingParams
from ragx.types import ReaderName

BOTH = "both"
"""The choice of two readers, side by side."""


@dataclass(frozen=True)
class Settings:
    """What the controls say, in their order."""

    index: str
    k: int
    prompt_passages: int
    method: str
    reader: str
    """A reader's name, or `BOTH`."""
    max_new_tokens: int
    temperature: float

    @property
    def readers(self) -> list[ReaderName]:
        """The readers that answer, in turn."""
        if self.reader == BOTH:
            return ["cepe", "full"]
        return [each for each in get_args(ReaderName) if self.reader == each]

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `RAG.ask`."""
        sampling = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=self.temperature)
        return {"k": self.k, "prompt_passages": self.prompt_passages, "method": self.method, "sampling": sampling}
