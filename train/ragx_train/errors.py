"""Errors of training that a user can act on."""

from __future__ import annotations

from pathlib import Path

from ragx.errors import RagxError


class OutputError(RagxError):
    """The output of a command exists, cannot be written, or is being written by another process."""


class CheckpointError(RagxError):
    """No checkpoint can be resumed."""


class NotFiniteError(RagxError):
    """A loss or gradient is infinite or undefined."""


class Interrupted(RagxError):
    """A signal stopped a command after it had saved its results."""

    exit_code = 130


def check_new(out: Path) -> None:
    """Check that an output file does not exist.

    Raises:
        OutputError: it does.
    """
    if out.exists():
        raise OutputError(f"{out} exists: give --out another name")
