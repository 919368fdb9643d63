"""`ragx config`: show and change the user's own defaults of options."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragx.cli.defaults import KEYS, check, config_file, parse, read_values
from ragx.cli.options import Json
from ragx.errors import ConfigError
from ragx.util.settings import parse_value
from ragx.util.terminal import notice
from ragx.util.text import did_you_mean

if TYPE_CHECKING:
    import tomlkit

_PATHS = ("model", "decoder", "rerank")
"""Options whose value may be a folder."""

app = typer.Typer()
Key = Annotated[str, typer.Argument(metavar="OPTION", help="Name of an option of `ragx ask`, such as k.")]


@app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show or set your own defaults of options.

    They are in one file, for all commands but `eval` and `train`. An option on the command line goes before them, and
    RAGX_INDEX before the file's index.
    """
    if context.invoked_subcommand is not None:
        return
    path = config_file()
    values = read_values(path)
    variable = os.environ.get("RAGX_INDEX")
    if variable:
        values["index"] = variable
    if as_json:
        print(json.dumps({"file": str(path), "values": values}, indent=2))
        return
    print(path)
    for key, value in values.items():
        source = "  (RAGX_INDEX)" if key == "index" and variable else ""
        print(f"{key} = {json.dumps(value, ensure_ascii=False)}{source}")
    if not values:
        notice("no defaults of your own: `ragx config set OPTION VALUE` sets one")


@app.command("set")
def set_default(
    option: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help='As on the command line; several as \'["a", "b"]\'.')],
) -> None:
    """Set the default of an option."""
    path, document = _opened()
    key = _known(option)
    parsed = parse_value(key, value)
    if parsed is None:
        raise ConfigError(f"{key}: the value is empty; `ragx config unset {key}` removes the default")
    try:
        checked = getattr(check({**document.unwrap(), key: _anywhere(key, parsed)}), key)
    except ConfigError:
        read_values(path)  # names the file, if the mistake is in it
        raise
    document[key] = list(checked) if isinstance(checked, tuple) else checked
    _write(path, document)


@app.command("unset")
def unset_default(option: Key) -> None:
    """Remove the default of an option."""
    path, document = _opened()
    key = option if option in document else _known(option)
    if key not in document:
        raise ConfigError(f"{key} is not set in {path}")
    del document[key]
    _write(path, document)


def _known(option: str) -> str:
    key = option.lstrip("-").replace("-", "_")
    if key not in KEYS:
        raise ConfigError(f"unknown option {option!r}{did_you_mean(key, KEYS)}")
    return key


def _anywhere(key: str, value: Any) -> Any:
    """A value that means the same in every folder: paths are absolute."""
    if not isinstance(value, str):
        return value
    if key == "index":
        from ragx.index.names import index_folder, indexes_home, is_url

        if is_url(value):
            return value
        folder = index_folder(value)
        return value if folder == indexes_home() / value else str(folder.absolute())
    folder = Path(value).expanduser()
    return str(folder.absolute()) if key in _PATHS and folder.is_dir() else value


def _opened() -> tuple[Path, tomlkit.TOMLDocument]:
    """The file, links followed, and its contents with the user's own layout and comments."""
    import tomlkit

    path = config_file().resolve()
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a regular file")
    parse(path)  # reports what is wrong
    return path, tomlkit.parse(path.read_text(encoding="utf-8") if path.exists() else "")


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    import tomlkit

    from ragx.util.files import durable_file, writing

    with writing(path, ConfigError):
        path.parent.mkdir(parents=True, exist_ok=True)
    with durable_file(path, ConfigError) as file:
        file.write(tomlkit.dumps(document).encode())
