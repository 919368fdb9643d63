"""read_config: the settings of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ragx.errors import ModelError


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of a model's `config.json`.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{folder / 'config.json'} is not a model configuration")
    return values
