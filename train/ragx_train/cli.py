"""`ragx train`: run a recipe."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragx.errors import ConfigError

if TYPE_CHECKING:
    from ragx_train.settings import RecipeSettings

RECIPES = {
    "mlm": "MlmSettings",
    "warmup": "WarmupSettings",
    "cepe": "CepeSettings",
    "ceped": "CepedSettings",
    "retdoc": "RetdocSettings",
    "qa": "QaSettings",
}
"""Each is a module of `ragx_train.recipes` with `run`, and this model of its settings."""


def add_to(app: typer.Typer) -> None:
    """Add the command to ragx's."""
    app.command("train", context_settings={"ignore_unknown_options": True})(train)


def train(
    recipe: Annotated[
        str,
        typer.Argument(help=f"{', '.join(RECIPES)}; or split, to write retdoc's corpus; or answers, to write qa's."),
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as --loop.steps=100.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder for checkpoints, log and reader.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings: a YAML file; a resumed run has its own.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    time_limit: Annotated[str | None, typer.Option(help="Stop in time, with a checkpoint: 45m, 1h30m.")] = None,
) -> None:
    """Train a reader; or write to the file --out what a recipe reads.

    That is with split the documents that are kept to retrieve from, to index them for retdoc; with answers the
    decoder's own right answers to the questions of qa, to learn these instead.
    """
    from ragx_train.settings import parse_duration

    began = time.monotonic()
    chosen = [_override(each) for each in overrides or []]
    if recipe == "split":
        if out is None or config is None or resume or time_limit is not None:
            raise ConfigError("split takes --out, the file to write, and --config and settings of retdoc")
        _split(out, config, chosen)
        return
    limit = None if time_limit is None else parse_duration(time_limit)
    deadline = None if limit is None else began + limit
    if recipe == "answers":
        if out is None or config is None or resume:
            raise ConfigError("answers takes --out, the file to write, and --config and settings of qa")
        _answers(out, config, chosen, deadline)
        return
    if out is None:
        raise ConfigError("--out is missing: the folder for checkpoints, log and reader")
    above = next(each for each in (out, *out.absolute().parents) if each.exists())
    if not above.is_dir():
        raise ConfigError(f"--out {out} cannot be a folder: {above} is a file")
    if config is None and resume and (out / "settings.yaml").exists():
        config = out / "settings.yaml"
    if config is None and not chosen and recipe in RECIPES:
        raise ConfigError("--config is missing: a YAML file of settings, as those in train/configs")
    settings = load_recipe(recipe, config, chosen)
    from ragx_train.engine.loop import Run

    import_module(f"ragx_train.recipes.{recipe}").run(settings, Run(out, resume, deadline))


def _split(out: Path, config: Path | None, overrides: list[str]) -> None:
    from ragx.util.terminal import notice
    from ragx_train.data.split import write_retrieval_split

    settings: Any = load_recipe("retdoc", config, overrides)
    notice(f"{write_retrieval_split(settings.data, out):,} documents in {out}")


def _answers(out: Path, config: Path, overrides: list[str], deadline: float | None) -> None:
    from ragx.util.terminal import notice
    from ragx_train.data.own_answers import write_own_answers

    settings: Any = load_recipe("qa", config, overrides)
    written, asked = write_own_answers(settings, out, deadline)
    notice(f"{written:,} right answers to {asked:,} questions in {out}")


def load_recipe(recipe: str, config: Path | None, overrides: list[str]) -> RecipeSettings:
    """The settings of a recipe from a YAML file and overrides.

    Raises:
        ConfigError: there is no such recipe, or a setting does not fit.
    """
    from ragx.config import load_settings

    if recipe not in RECIPES:
        raise ConfigError(f"there is no recipe {recipe!r}; choose one of {', '.join(RECIPES)}, split or answers")
    model: Any = getattr(import_module(f"ragx_train.recipes.{recipe}"), RECIPES[recipe])
    settings: RecipeSettings = load_settings(model, config, overrides)
    return settings


def _override(argument: str) -> str:
    if not argument.startswith("--") or "=" not in argument:
        raise ConfigError(f"unknown argument {argument}; settings are given as --loop.steps=100")
    return argument
