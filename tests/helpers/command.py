"""The result of a command run in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

QUESTION = "How much sunlight does fresh snow reflect?"


class Run(NamedTuple):
    code: int
    out: str
    err: str


RunCommand = Callable[..., Run]
"""The fixture `run_command`, called `ragx` in tests/cli: it takes the words of a command."""
