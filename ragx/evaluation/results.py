"""Raw results, one JSON line per example. An interrupted run continues from its file.

The first line says what was measured and with which weights; a file holds the results of one run only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragx.errors import ConfigError

Values = dict[str, Any]


class Results:
    """Measurements by setting (a row of the table) and example."""

    def __init__(self, path: Path | None, run: Values) -> None:
        """Continue the file at `path`, or create it; None keeps results in memory only.

        Args:
            path: a file of JSON lines.
            run: what all results in the file have in common, as plain values.

        Raises:
            ConfigError: the file cannot be read or written, or holds anything but results of this run.
        """
        self._path = path
        self._values: dict[tuple[str, str], Values] = {}
        if path is None:
            return
        first = json.dumps({"run": run}).encode() + b"\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes() if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]  # an interrupted run may leave an incomplete last line
            if not whole and first.startswith(data):
                whole = first
            self._values = _checked(path, whole, run)
            with path.open("ab") as file:  # never rewritten: a kill in between would lose every result
                file.truncate(min(len(data), len(whole)))
                file.write(whole[len(data) :])
        except OSError as error:
            raise ConfigError(f"cannot use {path} for results: {error.strerror}") from None

    def measure(self, setting: str, example: str, function: Callable[[], Values]) -> Values:
        """The values for an example: from the file, or else from `function`, which returns plain values."""
        key = (setting, example)
        if key not in self._values:
            self._values[key] = function()
            if self._path is not None:
                row = {"setting": setting, "example": example, "values": self._values[key]}
                with self._path.open("ab") as file:
                    file.write(json.dumps(row).encode() + b"\n")
        return self._values[key]


def read_results(path: Path) -> tuple[Values, dict[tuple[str, str], Values]]:
    """What the results of a run have in common, and its measurements by setting and example.

    Raises:
        ConfigError: the file cannot be read, or does not hold results.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    return _parsed(path, data[: data.rfind(b"\n") + 1])


def _parsed(path: Path, data: bytes) -> tuple[Values, dict[tuple[str, str], Values]]:
    try:
        first, *rows = map(json.loads, data.splitlines())
        return dict(first["run"]), {(row["setting"], row["example"]): dict(row["values"]) for row in rows}
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} does not hold results of `ragx eval`: choose another file") from None


def _checked(path: Path, data: bytes, run: Values) -> dict[tuple[str, str], Values]:
    """The measurements in a file of this run."""
    file_run, values = _parsed(path, data)
    for name in sorted({*file_run, *run}):
        if file_run.get(name) != run.get(name):
            before, now = file_run.get(name), run.get(name)
            raise ConfigError(f"{path} holds results with {name} {before!r}, not {now!r}: choose another --out")
    return values
