"""The user's own defaults of options: a TOML file whose keys are names of options."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ragx.config import ModelOptions, ReaderOptions, SamplingParams, SearchOptions
from ragx.errors import ConfigError
from ragx.util.folders import config_home
from ragx.util.settings import checked, option_fields
from ragx.util.text import did_you_mean


class Defaults(SearchOptions, ReaderOptions, SamplingParams, ModelOptions):
    """What the file can set."""

    index: str | None = None
    """Name or folder of the index."""


KEYS = [*option_fields(Defaults)]
_COMMANDS = ("ask", "summarise", "summarize", "search", "serve", "chat", "mcp", "watch")
_INDEX_COMMANDS = ("build", "update", "add", "encode")
"""The commands that take defaults. Evaluations and training do not: their command lines say all."""


def config_file() -> Path:
    """The file of defaults: `$RAGX_CONFIG`, or config.toml in the user's configuration folder."""
    path = os.environ.get("RAGX_CONFIG")
    return Path(path).expanduser() if path else config_home() / "config.toml"


def read_values(path: Path) -> dict[str, Any]:
    """The values of a file; none if it does not exist or, as /dev/null, is not a regular file.

    Raises:
        ConfigError: it cannot be read, or a key or value is wrong.
    """
    values = parse(path)
    check(values, path)
    return values


def parse(path: Path) -> dict[str, Any]:
    """The unchecked values of a file.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def check(values: Mapping[str, Any], path: Path | None = None) -> Defaults:
    """`values`, and ragx's own defaults for all others.

    Raises:
        ConfigError: a key or value is wrong; names it, and the file it came from.
    """
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"{f'{path}: ' if path else ''}unknown option {key!r}{did_you_mean(key, KEYS)}")
    return checked(Defaults, dict(values), path)


def use_defaults(context: typer.Context) -> None:
    """Make the file's values the defaults of the options of `context`'s subcommands.

    The index is set as `RAGX_INDEX` is, which goes before the file.

    Raises:
        ConfigError: as `read_values`.
    """
    values = read_values(config_file())
    index = values.pop("index", None)
    if index and not os.environ.get("RAGX_INDEX"):
        os.environ["RAGX_INDEX"] = index
    context.default_map = {
        **dict.fromkeys(_COMMANDS, values),
        "index": dict.fromkeys(_INDEX_COMMANDS, values),
    }
