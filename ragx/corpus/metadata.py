"""Fields of a file's front matter or of a row, as metadata: few, short and plain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ragx.util.text import without_surrogates

MAX_FIELDS = 100
MAX_VALUE_CHARS = 1000
MAX_ITEMS = 100
MAX_CHARS = 16_000
"""Names and values of all fields together: every passage repeats them."""


def plain_fields(fields: Mapping[Any, object]) -> dict[str, object]:
    """Fields whose values are text, numbers, booleans or lists of these; a nested field is named "outer.inner".

    Longer texts and lists are cut; of more fields than fit, the first are kept. Empty values are dropped.
    """
    plain: dict[str, object] = {}
    left = MAX_CHARS
    stack: list[tuple[str, tuple[Any, object]]] = [("", item) for item in reversed(list(fields.items())[:MAX_FIELDS])]
    for _ in range(MAX_FIELDS * 10):  # a YAML file can name one nested field many times
        if not stack or len(plain) == MAX_FIELDS:
            break
        prefix, (key, value) = stack.pop()
        name = without_surrogates(f"{prefix}{key}"[:MAX_VALUE_CHARS])
        if isinstance(value, Mapping):
            stack += [(f"{name}.", item) for item in reversed(list(value.items())[:MAX_FIELDS])]
        elif (kept := _plain(value)) not in ("", None, []):
            left -= len(name) + len(str(kept))
            if left < 0:
                break
            plain[name] = kept
    return plain


def _plain(value: object) -> object:
    if isinstance(value, list | tuple | set):
        return [kept for item in list(value)[:MAX_ITEMS] if (kept := _scalar(item)) not in ("", None)]
    return _scalar(value)


def _scalar(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping | list | tuple | set | bytes):
        return None
    text = without_surrogates(str(value))
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"
