"""Options that several commands share. Settings models are declared once, in `ragx.config`, for Python and for here."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from ragx.config import LoadOptions, SearchOptions
from ragx.types import Effort
from ragx.util.settings import Settings, checked, option_fields, option_group

T = TypeVar("T")

MODEL = LoadOptions.model_config["title"]
"""The group, in `--help`, of options about models."""
server_option = partial(typer.Option, rich_help_panel="Server")
ray_option = partial(typer.Option, rich_help_panel="Ray cluster")


def on_command_line(context: typer.Context, *names: str) -> list[str]:
    """Those of these options that are on the command line."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _of_the_same_model(context: typer.Context, value: str | None) -> str | None:
    """The address; none if it is a default and another model is given."""
    return None if on_command_line(context, "model") and not on_command_line(context, "base_url") else value


_SHORT = {"k": "-k"}
_CALLBACKS = {"base_url": _of_the_same_model}


def setting(model: type[Settings], field: str, *flags: str, **limits: Any) -> Any:
    """A `typer.Option` for a field of a model, with the field's help text, in the model's group."""
    return typer.Option(
        *flags,
        help=model.model_fields[field].description,
        rich_help_panel=option_group(model, field),
        callback=_CALLBACKS.get(field),
        **limits,
    )


def _go_offline(value: bool) -> bool:
    if value:
        os.environ.update(RAGX_OFFLINE="1", HF_HUB_OFFLINE="1")  # huggingface_hub reads its variable on import
    return value


EngineName = Literal["local", "ray"]
Offline = Annotated[
    bool, typer.Option("--offline", callback=_go_offline, help="Never use the network (also RAGX_OFFLINE=1).")
]


def _index_folder(index: str) -> Path:
    from ragx.index.names import index_folder

    return index_folder(index)


def index_option(help: str) -> Any:
    """`--index NAME|DIR|URL`."""
    return typer.Option("--index", parser=_index_folder, metavar="NAME|DIR|URL", help=help)


IndexFolder = Annotated[
    Path | None, index_option("Name, folder or URL of an index. Default: RAGX_INDEX, or the index named default.")
]
IndexFolders = Annotated[
    list[Path] | None,
    index_option("Name, folder or URL of an index; may be repeated. Default: RAGX_INDEX, or the index named default."),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, or cuda:1. Default: a GPU if there is one.", rich_help_panel=MODEL),
]
Dtype = Annotated[
    Literal["auto", "bfloat16", "float16", "float32"],
    typer.Option(help="Number format; auto: the fastest on the device.", rich_help_panel=MODEL),
]
Engine = Annotated[EngineName, ray_option(help="local, or ray to use a Ray cluster (docs/ray.md).")]
Address = Annotated[str | None, ray_option(help="Ray cluster: auto or HOST:PORT. Default: a new local one.")]
Rerank = Annotated[str, setting(SearchOptions, "rerank")]
SearchEffort = Annotated[Effort, setting(SearchOptions, "effort")]
Where = Annotated[str | None, setting(SearchOptions, "where")]
Watch = Annotated[bool, typer.Option("--watch", help="Keep the index up to date with what it was built from.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def with_settings(command: Callable[..., T]) -> Callable[..., T]:
    """Replace each parameter of a command that is a `Settings` model by one option for each field of the model.

    Help texts, types and defaults are the model's; a default instance of the parameter changes the defaults. The
    command receives the checked model.

    Raises:
        ConfigError: when the command runs, a value is out of range; the message is the same as in Python.
    """
    hints = get_type_hints(command, include_extras=True)
    models: dict[str, type[Settings]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        model = hints[name]
        if isinstance(model, type) and issubclass(model, Settings):
            models[name] = model
            defaults = model() if parameter.default is parameter.empty else parameter.default
            parameters += [_option(model, field, getattr(defaults, field)) for field in option_fields(model)]
        else:
            parameters.append(parameter.replace(annotation=model))

    @wraps(command)
    def run(**values: Any) -> T:
        for name, model in models.items():
            fields = {field: values.pop(field) for field in option_fields(model)}
            values[name] = checked(
                model, {key: () if value is None and key == "stop" else value for key, value in fields.items()}
            )
        return command(**values)

    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _option(model: type[Settings], name: str, default: Any) -> inspect.Parameter:
    flags = [f"--{name.replace('_', '-')}", *([_SHORT[name]] if name in _SHORT else [])]
    annotation: Any = list[str] | None if isinstance(default, tuple) else model.model_fields[name].annotation
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default or None if isinstance(default, tuple) else default,
        annotation=Annotated[annotation, setting(model, name, *flags)],
    )
