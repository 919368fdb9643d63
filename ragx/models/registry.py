"""The named models in `registry.toml`."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field

from ragx.config import REMOTE, WheelFile
from ragx.errors import ModelError
from ragx.util.settings import Settings
from ragx.util.text import did_you_mean

Kind = Literal["decoder", "embedder", "reader", "reranker"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Entry(Settings):
    """A model and its sources. `kind` is None for a Hub id that is not in the registry."""

    name: str
    kind: Kind | None = None
    license: str | None = None
    about: str = ""
    language: Literal["english"] | None = None
    """The only language that an embedder knows."""
    parameters: int | None = None
    """Of a decoder."""
    window: int | None = None
    """Tokens that a decoder reads at once."""
    hub: str
    revision: str | None = None
    sha256: dict[str, str] = Field(default={})
    """Checksums of the weight files by name, for all sources."""
    wheel: WheelFile | None = None

    @property
    def key(self) -> str:
        """Name of the model's folder in the cache; unique, because Hub ids do not contain `--`."""
        return self.name.replace("/", "--")


@functools.cache
def entries() -> tuple[Entry, ...]:
    """The registry's entries, in the order of the file."""
    return parse(Path(__file__).with_name("registry.toml"))


def parse(path: Path) -> tuple[Entry, ...]:
    """The entries of a registry file, in order.

    Raises:
        ModelError: the file is damaged.
    """
    try:
        named = tomllib.loads(path.read_text(encoding="utf-8"))
        return tuple(Entry.model_validate({**values, "name": name}) for name, values in named.items())
    except (OSError, ValueError, TypeError, RecursionError):  # ValueError: TOML, UTF-8 and validation
        raise ModelError(f"{path} is damaged: reinstall ragx") from None


def find(name: str) -> Entry:
    """The entry of a registered name or any Hub id.

    Raises:
        ModelError: `name` is neither.
    """
    for entry in entries():
        if name in (entry.name, entry.hub):
            return entry
    if _HUB_ID.fullmatch(name) and not name.startswith((".", "-")) and ".." not in name and "--" not in name:
        return Entry(name=name, hub=name)
    if name.startswith(REMOTE):
        raise ModelError(f"{name} is behind an API: this needs a model on this machine")
    names = [entry.name for entry in entries()]
    if guess := did_you_mean(name, names):
        raise ModelError(f"unknown model {name!r}{guess}")
    raise ModelError(f"unknown model {name!r}: use a folder, a Hub id (owner/name) or one of {', '.join(names)}")
