"""Raw results, one JSON line per example. An interrupted run continues from its file.

The first line says what was measured and with which weights; a file holds the results of one such run only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragx.errors import ConfigError

Values = dict[str, Any]


class Results:
    """The measurements so far, by setting (a row of the table) and example."""

    def __init__(self, path: Path | None, run: Values) -> None:
        """Continue the file at `path`, or create it; None keeps results in memory only.

        Args:
            path: a file of JSON lines.
            run: what all results in the file have in common, as plain values.

        Raises:
            ConfigError: the file cannot be read or written, or holds anything but results of this run.
        """
        self._path = path
        self._done: dict[tuple[str, str], Values] = {}
        if path is None:
            return
        first = json.dumps({"run": run}).encode() + b"\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes() if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]  # an interrupted run may leave an incomplete last line
            if not whole and first.startswith(data):
                whole = first
            self._done = _rows(path, whole, run)
            with path.open("ab") as file:  # never rewritten: a kill in between would lose every result
                file.truncate(min(len(data), len(whole)))
                file.write(whole[len(data) :])
        except OSError as error:
            raise ConfigError(f"cannot use {path} for results: {error.strerror}") from None

    def measured(self, setting: str, example: str, measure: Callable[[], Values]) -> Values:
        """The values for an example, measured now unless the file has them; `measure` returns plain values."""
        key = (setting, example)
        if key not in self._done:
            self._done[key] = measure()
            if self._path is not None:
                row = {"setting": setting, "example": example, "values": self._done[key]}
                with self._path.open("ab") as file:
                    file.write(json.dumps(row).encode() + b"\n")
        return self._done[key]


def _rows(path: Path, whole: bytes, run: Values) -> dict[tuple[str, str], Values]:
    try:
        first, *rows = map(json.loads, whole.splitlines())
        held = dict(first["run"])
        done = {(row["setting"], row["example"]): dict(row["values"]) for row in rows}
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} does not hold results of `ragx eval`: choose another --out") from None
    for name in sorted({*held, *run}):
        if held.get(name) != run.get(name):
            before, now = held.get(name), run.get(name)
            raise ConfigError(f"{path} holds results with {name} {before!r}, not {now!r}: choose another --out")
    return done
