"""Strict settings: a YAML file becomes a checked model, and `--a.b=c` overrides one value of it.

An unknown key, a wrong type or a repeated option raises a `ConfigError` that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from ragx.errors import ConfigError
from ragx.util.text import did_you_mean

_MAX_BYTES = 1 << 20
"""Maximum size of a settings file."""


class Settings(BaseModel):
    """Base of every settings model: frozen, an unknown key is an error, and a docstring is its field's help text.

    A model's `title` is the group of its fields' options in `--help`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


PYTHON_ONLY: dict[str, Any] = {"option": False}
"""`json_schema_extra` of a field that commands have no option for."""


def option_fields(model: type[Settings]) -> dict[str, FieldInfo]:
    """The fields that commands have options for."""
    return {name: field for name, field in model.model_fields.items() if field.json_schema_extra != PYTHON_ONLY}


def option_group(model: type[Settings], field: str) -> str | None:
    """The title of the model that declares a field: `model` or one of its bases."""
    bases = (base for base in reversed(model.__mro__) if issubclass(base, Settings))
    return next(base.model_config.get("title") for base in bases if field in base.model_fields)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(
    model: type[SettingsT], path: Path | None, overrides: Iterable[str] = (), given: Mapping[str, object] | None = None
) -> SettingsT:
    """Read `path` (none: the defaults), apply `a.b=value` overrides (values are YAML) and check the result.

    The values of `given` replace those of the file unchanged.

    Raises:
        ConfigError: the file is missing or not a YAML mapping, or a key or value does not fit `model`.
    """
    values = (_read_mapping(path) if path else {}) | dict(given or {})
    seen = set(given or {})
    for override in overrides:
        key, equals, text = override.removeprefix("--").partition("=")
        if not equals or not key:
            raise ConfigError(f"{override!r} is not of the form --key=value")
        if key in seen:
            raise ConfigError(f"{key} is given twice")
        seen.add(key)
        _set(values, key, parse_value(key, text))
    return checked(model, values, path)


def checked(model: type[SettingsT], values: dict[str, Any], path: Path | None = None) -> SettingsT:
    """`values` as a `model`.

    Raises:
        ConfigError: a key or value does not fit; names it, and the file it came from.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_describe(error, model, path)) from None


class _Loader(yaml.SafeLoader):
    """Rejects repeated keys, and aliases, because a few lines with aliases can expand to gigabytes."""

    # By hand: ruamel.yaml rejects repeated keys but follows aliases; OmegaConf adds interpolation and containers.

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported", None)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(key for number, key in enumerate(keys) if key in keys[:number])
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is given twice", node.start_mark)
        return mapping


def _load_yaml(text: str) -> Any:
    """Parse YAML; raise a one-line ValueError if it is invalid."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader  # noqa: S506  # nosec B506
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError) as error:
        # PyYAML does not wrap errors of Python's own types on an impossible date or number
        raise ValueError(" ".join(str(error).split())) from None


def _read_mapping(path: Path) -> dict[str, object]:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"cannot read {path}: it is not a regular file")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than {_MAX_BYTES >> 20} MB: it cannot be a settings file")
        values = _load_yaml(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} must be a mapping of settings")
    return values


def parse_value(key: str, text: str) -> object:
    """The value that `text`, YAML, gives the setting `key`.

    Raises:
        ConfigError: it is not YAML.
    """
    try:
        return _load_yaml(text)
    except ValueError:
        raise ConfigError(f"{key}: {text!r} is not a valid YAML value") from None


def _set(values: dict[str, object], dotted: str, value: object) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{dotted}: {parent} is a single value, not a group of settings")
        values = child
    values[last] = value


def _describe(error: ValidationError, model: type[Settings], path: Path | None) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "settings"
    where = f"{path}: " if path else ""
    if key.startswith("sources."):
        return f"{where}{'.'.join(key.split('.')[:2])}: must be a path, a wheel's file or a dataset"
    if first["type"] == "extra_forbidden":
        *parents, last = map(str, first["loc"])
        return f"{where}unknown setting {key!r}{did_you_mean(last, _fields(model, parents))}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "literal_error":
        expected = str(first["ctx"]["expected"]).replace(" or ", ", ")
        message = f"{first['input']!r} is not one of {expected}"
    elif first["type"] == "string_pattern_mismatch":
        message = f"{first['input']!r} does not have the form that `--help` shows"
    elif message.startswith("Input should be"):
        message = f"{message.replace('Input should be', 'must be')}, got {first['input']!r}"
    return f"{where}{key}: {message}"


def _fields(model: type[Settings], groups: Sequence[str]) -> list[str]:
    """The settings in a group that is nested in these groups; none if they are not all groups."""
    found: Any = model
    for name in groups:
        if name.isdigit():  # the place of an item in a list
            continue
        field = found.model_fields.get(name)
        found = field and _settings_in(field.annotation)
        if found is None:
            return []
    return [*found.model_fields]


def _settings_in(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next(filter(None, map(_settings_in, get_args(annotation))), None)
