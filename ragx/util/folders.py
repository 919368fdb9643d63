"""Where ragx keeps what it downloads and what users make (XDG Base Directory Specification)."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """The folder of what can be downloaded or computed again: `$RAGX_HOME`, else `ragx` in the user's cache."""
    return _home("XDG_CACHE_HOME", "~/.cache")


def data_home() -> Path:
    """The folder of what a user makes: `$RAGX_HOME`, else `ragx` in the user's data folder."""
    return _home("XDG_DATA_HOME", "~/.local/share")


def _home(variable: str, default: str) -> Path:
    named = os.environ.get("RAGX_HOME")
    return Path(named or Path(os.environ.get(variable) or default, "ragx")).expanduser().absolute()
