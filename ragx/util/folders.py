"""ragx's folders for downloads, for users' data and for their settings (XDG Base Directory Specification)."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """The folder of data that can be downloaded or computed again: `$RAGX_HOME`, or `ragx` in the user's cache."""
    return _home("XDG_CACHE_HOME", "~/.cache")


def data_home() -> Path:
    """The folder of data that users create: `$RAGX_HOME`, or `ragx` in the user's data folder."""
    return _home("XDG_DATA_HOME", "~/.local/share")


def config_home() -> Path:
    """The folder of the user's settings: `$RAGX_HOME`, or `ragx` in the user's configuration folder."""
    return _home("XDG_CONFIG_HOME", "~/.config")


def _home(variable: str, default: str) -> Path:
    home = os.environ.get("RAGX_HOME")
    return Path(home or Path(os.environ.get(variable) or default, "ragx")).expanduser().absolute()
