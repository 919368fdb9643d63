"""What a command leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

QUESTION = "How much sunlight does fresh snow reflect?"


class Run(NamedTuple):
    code: int
    out: str
    err: str


RunCommand = Callable[..., Run]
"""The fixtures `run_command` and, in tests/cli, `ragx`: the words of a command in, what it leaves out."""
