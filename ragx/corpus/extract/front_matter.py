"""Front matter: metadata in YAML or TOML between fences at the beginning of a text file."""

from __future__ import annotations

from typing import Any

from ragx.corpus.metadata import plain_fields

MAX_LINES = 1000
MAX_CHARS = 1 << 14
MAX_DEPTH = 50
_FENCES = {"---": ("---", "..."), "+++": ("+++",)}


def split_front_matter(text: str) -> tuple[dict[str, object], str, list[str]]:
    """The metadata, the text below it, and a line for each problem. Text that only looks like front matter stays."""
    lines = text.split("\n", MAX_LINES)
    ends = _FENCES.get(lines[0].rstrip(), ())
    last = next((number for number, line in enumerate(lines[:MAX_LINES]) if number and line.rstrip() in ends), 0)
    if not last:
        return {}, text, []
    block = "\n".join(lines[1:last])
    if len(block) > MAX_CHARS:
        return {}, text, []
    fields, problems = _yaml(block) if lines[0].startswith("-") else _toml(block)
    if fields is None:
        return {}, text, []
    body = "\n".join(lines[last + 1 :])
    return plain_fields(fields), body, problems


def _yaml(block: str) -> tuple[dict[Any, Any] | None, list[str]]:
    import yaml

    try:
        if _is_deep(block):
            return None, []
        fields = yaml.safe_load(block)
    except (yaml.YAMLError, ValueError, RecursionError):
        pairs = (line.partition(": ") for line in block.split("\n") if line[:1].isalpha())
        fields = {name: value.strip().strip("\"'") for name, colon, value in pairs if colon and value}
        return fields or None, ['its front matter is not valid YAML: only its lines "name: value" were read']
    if fields is None:  # empty
        return {}, []
    return (fields, []) if isinstance(fields, dict) else (None, [])


def _is_deep(block: str) -> bool:
    import yaml

    depth = 0
    for event in yaml.parse(block, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return True
    return False


def _toml(block: str) -> tuple[dict[Any, Any] | None, list[str]]:
    import tomllib

    try:
        return tomllib.loads(block), []
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return None, []
