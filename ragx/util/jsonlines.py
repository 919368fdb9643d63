"""JSON lines: one object a line, in a file that may be compressed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragx.errors import CorpusError
from ragx.util.compressed import UNREADABLE, open_bytes
from ragx.util.text import first_line

MAX_LINE_BYTES = 64 << 20
"""Longer lines are refused: a whole line is held in memory."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used."""

    reason: str
    """One line, to follow `path:line`; or the path alone if `unreadable`."""
    unreadable: bool = False
    """The file is missing, forbidden or damaged: nothing follows."""


def read_lines(path: Path, max_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes | BadLine]]:
    """The lines of a file, numbered from 1. A damaged file ends before the damage."""
    number = 0
    try:
        with open_bytes(path) as file:
            while line := file.readline(max_bytes):
                number += 1
                if len(line) == max_bytes and not line.endswith(b"\n"):
                    while line and not line.endswith(b"\n"):
                        line = file.readline(max_bytes)
                    yield number, BadLine(f"is longer than {max_bytes >> 20} MB")
                else:
                    yield number, line
    except UNREADABLE as error:
        where = f" beyond line {number}" if number else ""
        reason = getattr(error, "strerror", None) or first_line(error)
        yield number, BadLine(f"cannot be read{where}: {reason}", unreadable=True)


def read_objects(path: Path, max_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    """The object of each line that is not blank, UTF-8, with the number of the line."""
    for number, line in read_lines(path, max_bytes):
        if isinstance(line, BadLine):
            yield number, line
        elif line.strip():
            yield number, _object(line)


def load_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """As `read_objects`, each object with `path:line` for messages, but a bad line ends the reading.

    Raises:
        CorpusError: the file cannot be read, or a line is not a JSON object; names file and line.
    """
    for number, row in read_objects(path):
        where = f"{path}:{number}"
        if isinstance(row, BadLine):
            raise CorpusError(f"{path if row.unreadable else where} {row.reason}")
        yield where, row


def _object(line: bytes) -> dict[str, Any] | BadLine:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return BadLine("is not UTF-8")
    except (ValueError, RecursionError) as error:
        return BadLine(f"is not valid JSON: {first_line(error)}")
    return row if isinstance(row, dict) else BadLine("is not a JSON object")
