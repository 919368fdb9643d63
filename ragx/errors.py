"""Errors a user can act on: one line that says what is wrong and what to do, and the exit code it maps to.

Exit codes: 0 done, 1 a bug in ragx, 2 bad input or a missing model or index, 3 done but some files were skipped,
4 an API does not answer, refuses the key or fails, 130 interrupted.
"""

from __future__ import annotations

REPAIR_ADVICE = "run `ragx index repair`, or rebuild the index"


class RagxError(Exception):
    """An error the user can fix. The message is one line; the CLI prints it and exits with `exit_code`."""

    exit_code = 2


class ModelError(RagxError):
    """A model is missing, damaged or unsupported."""


class EndpointError(RagxError):
    """An API does not answer, refuses the key or fails."""

    exit_code = 4


class CorpusError(RagxError):
    """A corpus, or with --strict a single file of it, cannot be read."""


class EmptyCorpusError(CorpusError):
    """A corpus gives no passages."""


class IndexFolderError(RagxError):
    """An index is missing, damaged, locked or does not match the settings."""


class ConfigError(RagxError):
    """A setting is unknown, of the wrong type or out of range."""
