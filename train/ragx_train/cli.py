"""`ragx train`: a command for each recipe, and two that prepare data."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ragx.errors import ConfigError
from ragx.util.settings import load_settings
from ragx.util.terminal import notice
from ragx_train.settings import parse_duration

RECIPES = {
    "reader": ("ReaderSettings", "Train a reader of text and questions, from a decoder, in one run."),
    "mlm": ("MlmSettings", "Pre-train the encoder alone, on masked tokens."),
    "warmup": ("WarmupSettings", "Train a reader to copy its own tokens from the encoder."),
    "cepe": ("CepeSettings", "Train a reader to use the text before its own as context."),
    "ceped": ("CepedSettings", "As cepe, and to match what the decoder predicts from the whole text."),
    "retdoc": ("RetdocSettings", "Train a reader to use retrieved passages as context."),
    "extensible": ("ExtensibleSettings", "Train an embedder that makes one embedding of many tokens."),
    "qa": ("QaSettings", "Train a reader to answer questions from passages."),
    "reranker": ("RerankerSettings", "Train a model that orders the passages found for a question."),
    "late": ("LateSettings", ""),
}
"""The settings class and the help of each recipe, a module of `ragx_train.recipes`."""
KINDS = {"cross-encoder": "reranker", "late": "late"}
"""The recipe of each kind of reranker."""

Overrides = Annotated[list[str] | None, typer.Argument(help="Settings such as --loop.steps=100.")]
_SETTINGS = "Settings: a name such as tiny or smollm2-135m (train/configs), or a YAML file"
Config = Annotated[Path, typer.Option(metavar="NAME|FILE", help=f"{_SETTINGS}.")]
OutFile = Annotated[Path, typer.Option(help="File to write (JSON lines).")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder for checkpoints, log and model.")]
RecipeConfig = Annotated[
    Path | None, typer.Option("--config", metavar="NAME|FILE", help=f"{_SETTINGS}; --resume finds its own.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")]
TimeLimit = Annotated[
    float | None, typer.Option(parser=parse_duration, metavar="DURATION", help="Save and stop before this: 45m, 1h30m.")
]


Plan = Annotated[bool, typer.Option("--plan", help="Only print what the run takes, and whether its settings work.")]
Gpus = Annotated[int, typer.Option(min=1, help="--plan: number of GPUs.")]
GpuMemory = Annotated[float, typer.Option(min=1, help="--plan: GB of a GPU.")]
Rate = Annotated[float | None, typer.Option(min=1, help="--plan: tokens a second of all GPUs, to print hours.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to ragx's."""
    commands = typer.Typer(no_args_is_help=True, help="Train readers and rerankers, and prepare training data.")
    settings = {"ignore_unknown_options": True}
    own: dict[str, Callable[..., None]] = {"reader": reader, "reranker": reranker}
    for recipe, (_, description) in RECIPES.items():
        command = own.get(recipe) or _training(recipe)
        if description:
            commands.command(recipe, help=description, context_settings=settings)(command)
    commands.command(context_settings=settings)(split)
    commands.command(context_settings=settings)(retrieve)
    commands.command(context_settings=settings)(answers)
    app.add_typer(commands, name="train")


def _training(recipe: str) -> Callable[..., None]:
    def train(
        out: OutFolder,
        overrides: Overrides = None,
        config: RecipeConfig = None,
        resume: Resume = False,
        time_limit: TimeLimit = None,
        plan: Plan = False,
        gpus: Gpus = 1,
        gpu_memory: GpuMemory = 80,
        rate: Rate = None,
    ) -> None:
        if not plan:
            _train(recipe, out, overrides, config, resume, time_limit)
            return
        from ragx_train.plan import Machine, describe

        settings = load_recipe(recipe, _configuration(out, config, resume), overrides)
        print(describe(recipe, settings, Machine(gpus, gpu_memory, rate)))

    return train


def reranker(
    out: OutFolder,
    overrides: Overrides = None,
    kind: Annotated[
        Literal["cross-encoder", "late"],
        typer.Option(help="cross-encoder: reads question and passage together; late: compares a reader's encodings."),
    ] = "cross-encoder",
    config: RecipeConfig = None,
    resume: Resume = False,
    time_limit: TimeLimit = None,
) -> None:
    _train(KINDS[kind], out, overrides, config, resume, time_limit)


def _train(
    recipe: str,
    out: Path,
    overrides: list[str] | None,
    config: Path | None,
    resume: bool,
    time_limit: float | None,
) -> None:
    deadline = _deadline(time_limit)
    config = _configuration(out, config, resume)
    if config is None and not overrides:
        raise ConfigError(f"--config is missing: {', '.join(shipped_settings(recipe))}, or a YAML file of settings")
    settings = load_recipe(recipe, config, overrides)
    from ragx_train.engine.loop import Run

    import_module(f"ragx_train.recipes.{recipe}").run(settings, Run(out, resume, deadline))


def reader(
    overrides: Overrides = None,
    decoder: Annotated[str | None, typer.Option(help="A Llama-family decoder: name, folder or Hub id.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of texts and questions (text files, JSON lines).")] = None,
    index: Annotated[Path | None, typer.Option(help="Index to write questions about.")] = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Time for the whole run, over all resumed ones: 3h, 1h30m.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for stages, questions and reader.")] = Path("runs/reader"),
    config: RecipeConfig = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
) -> None:
    config = _configuration(out, config, resume)
    if config is None and decoder is None and not overrides:
        raise ConfigError("--decoder is missing: the name, folder or Hub id of a Llama-family decoder")
    options = {"model.decoder": decoder, "data.folder": data, "data.index": index, "time_limit": time_limit}
    given = [f"{key}={json.dumps(str(value))}" for key, value in options.items() if value is not None]
    if index and not data and config and config != _settings_file("reader", config):
        given += ["data.texts=null", "data.questions=null"]  # shipped settings name the files of --data
    settings: Any = load_recipe("reader", config, [*given, *(overrides or [])])
    from ragx_train.engine.loop import Run
    from ragx_train.recipes.reader import run

    run(settings, Run(out, resume))


def split(config: Config, out: OutFile, overrides: Overrides = None) -> None:
    """Write the documents that retdoc reserves for retrieval, to index them."""
    settings = load_recipe("retdoc", config, overrides)
    from ragx_train.data.split import write_retrieval_split

    notice(f"{write_retrieval_split(settings.data, out):,} documents in {out}")


def retrieve(
    config: Config,
    out: Annotated[Path, typer.Option("--out", help="Folder of passages; retdoc reads it as `retrieved`.")],
    overrides: Overrides = None,
    time_limit: TimeLimit = None,
) -> None:
    """Search for the passages of a whole retdoc run before it; the same command continues an interrupted search."""
    deadline = _deadline(time_limit)
    settings = load_recipe("retdoc", config, overrides)
    from ragx_train.recipes.retdoc import retrieve_all

    if retrieve_all(settings, out, deadline):
        notice(f"all passages are in {out}: train with --retrieved={out}")


def answers(config: Config, out: OutFile, overrides: Overrides = None, time_limit: TimeLimit = None) -> None:
    """Write the decoder's own correct answers to qa's questions, to train on those."""
    deadline = _deadline(time_limit)
    settings = load_recipe("qa", config, overrides)
    from ragx_train.data.own_answers import write_own_answers

    correct, questions = write_own_answers(settings, out, deadline)
    notice(f"{correct:,} correct answers to {questions:,} questions in {out}")


def load_recipe(recipe: str, config: Path | None, overrides: list[str] | None = None) -> Any:
    """The settings of a recipe, of the class that `RECIPES` names, from a YAML file or shipped settings, and overrides.

    Raises:
        ConfigError: there is no such file or name, or a setting is unknown or out of range.
    """
    model = getattr(import_module(f"ragx_train.recipes.{recipe}"), RECIPES[recipe][0])
    return load_settings(model, config and _settings_file(recipe, config), overrides or ())


def shipped_settings(recipe: str) -> dict[str, Path]:
    """The YAML files of a recipe that come with ragx, by name."""
    package = Path(__file__).parent
    folders = (package / "configs", package.parent / "configs")  # in a wheel, in a checkout
    return {file.stem: file for folder in folders for file in sorted((folder / recipe).glob("*.yaml"))}


def _settings_file(recipe: str, config: Path) -> Path:
    """The file that `--config` means: a file goes before a name."""
    if config.is_file() or config.name != str(config) or config.suffix in (".yaml", ".yml"):
        return config
    shipped = shipped_settings(recipe)
    if config.name not in shipped:
        raise ConfigError(f"--config {config}: neither a file nor one of {', '.join(shipped)}")
    return shipped[config.name]


def _configuration(out: Path, config: Path | None, resume: bool) -> Path | None:
    """The settings file to read: the one given, or that of the run to resume; None if neither exists."""
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ConfigError(f"--out {out} cannot be a folder: {existing} is a file")
    if config is None and resume and (out / "settings.yaml").exists():
        return out / "settings.yaml"
    return config


def _deadline(time_limit: float | None) -> float | None:
    return None if time_limit is None else time.monotonic() + time_limit
