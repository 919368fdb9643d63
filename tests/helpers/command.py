"""What a command leaves."""

from __future__ import annotations

from dataclasses import dataclass

QUESTION = "How much sunlight does fresh snow reflect?"


@dataclass
class Run:
    code: int
    out: str
    err: str
