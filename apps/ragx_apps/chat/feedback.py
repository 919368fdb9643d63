"""What visitors think of answers: a line of JSON each."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ragx.errors import ConfigError, RagxError

MAX_BYTES = 100_000_000
"""A file of this size takes no more."""
_writing = threading.Lock()


def check_feedback(file: Path) -> None:
    """Raise a `ConfigError` where ratings cannot be written to a file; it exists afterwards."""
    try:
        file.open("a").close()
    except OSError as error:
        raise ConfigError(f"--feedback: cannot write {file}: {error.strerror}") from None


def write_feedback(file: Path, **values: Any) -> None:
    """Append a rating and the answer it is about.

    Raises:
        RagxError: the file cannot be written, or is full.
    """
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **values}) + "\n"
    try:
        with _writing, file.open("a", encoding="utf-8") as lines:
            if lines.tell() + len(line) > MAX_BYTES:
                raise RagxError(f"{file.name} is full")
            lines.write(line)
    except OSError as error:
        raise RagxError(f"cannot write {file.name}: {error.strerror}") from None
