"""The shipped YAML files, the settings they must satisfy, and the commands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from ragx_train.cli import KINDS, RECIPES, load_recipe
from ragx_train.settings import parse_duration
from typer.testing import CliRunner

from ragx.errors import ConfigError
from ragx.models import list_models
from tests.helpers.tiny_runs import CONFIGS, tiny_settings, write_documents

ROOT = Path(__file__).parents[2]
READERS = [recipe for recipe in RECIPES if recipe not in KINDS.values()]
DOCUMENTS = [
    ROOT / "train" / "README.md",
    ROOT / "docs" / "results.md",
    *sorted((ROOT / "weights" / "ragx_weights").glob("*/README.md")),
]


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_yaml_loads(path: Path) -> None:
    settings = load_recipe(path.parent.name, path, [])
    assert settings.loop.batch_size % getattr(settings.loop, "micro_batch", 1) == 0


def test_every_recipe_of_a_reader_has_its_yaml_files() -> None:
    shipped = {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml")}
    sizes = {f"{recipe}/{size}.yaml" for recipe in READERS for size in ("tiny", "smollm2-135m", "paper")}
    of_readers = {f"reader/{name}.yaml" for name in ("qwen3-0.6b", "llama-3.2-1b", "gpu", "own")}
    last = "qa/smollm2-135m-own.yaml"  # the last stage of the default reader
    others = {last, "reranker/tiny.yaml", "reranker/minilm-l6.yaml", "late/tiny.yaml", "late/smollm2-135m.yaml"}
    none = {"reader/paper.yaml", "extensible/paper.yaml"}  # the latter's paper gives neither chunk nor learning rate
    assert shipped == {*sizes - none, *of_readers, *others}


@pytest.mark.parametrize(
    "path",
    sorted(path for recipe in READERS for path in (CONFIGS / recipe).glob("*.yaml")),
    ids=lambda path: str(path.relative_to(CONFIGS)),
)
def test_a_stage_starts_from_a_reader_with_its_decoder(path: Path) -> None:
    model = load_recipe(path.parent.name, path, []).model
    earlier = model.init_from and CONFIGS / model.init_from.removeprefix("runs/") / path.name
    if earlier and earlier.is_file():  # otherwise the YAML file says how to train it
        assert load_recipe(earlier.parent.name, earlier, []).model.decoder == model.decoder


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_commands_have_valid_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\bconfigs/[\w./-]+\.yaml", text):
        assert (ROOT / "train" / name).is_file(), name
    readers = {model.name for model in list_models() if model.kind == "reader"}
    for line in re.findall(r"^ragx train .*--config .*$", text, re.MULTILINE):
        _, _, recipe, *arguments = shlex.split(line, comments=True)
        options = dict(pairwise(arguments))
        settings = {"split": "retdoc", "retrieve": "retdoc", "answers": "qa"}.get(
            recipe, KINDS.get(options.get("--kind", ""), recipe)
        )
        overrides = [each for each in arguments if each.startswith("--") and "=" in each]
        model = load_recipe(settings, Path(options["--config"]), overrides).model
        start = getattr(model, "init_from", None)
        run = start and start.partition("/stages/")[0]  # a stage of `ragx train reader` is a reader too
        assert recipe not in RECIPES or run is None or run in readers, f"nothing creates {start}: {line}"
        readers.add(options["--out"])


def test_the_readme_lists_every_file() -> None:
    listed = re.findall(r"\w+\.py", (ROOT / "train" / "README.md").read_text(encoding="utf-8").partition("## Files")[2])
    package = ROOT / "train" / "ragx_train"
    assert set(listed) == {path.name for path in package.rglob("*.py")} - {"__init__.py"}
    assert len(listed) == len(set(listed))


def test_the_paper_s_numbers() -> None:
    warmup = load_recipe("warmup", CONFIGS / "warmup" / "paper.yaml", []).model_dump()
    cepe = load_recipe("cepe", CONFIGS / "cepe" / "paper.yaml", []).model_dump()
    tokens = warmup["loop"]["steps"] * warmup["loop"]["batch_size"] * warmup["tokens"]
    assert tokens == pytest.approx(131e6, rel=0.01)
    sequence = cepe["encoder_tokens"] + cepe["decoder_tokens"]
    assert cepe["loop"]["steps"] * cepe["loop"]["batch_size"] * sequence == pytest.approx(20e9, rel=0.05)
    assert cepe["encoder_tokens"] / cepe["chunk"] == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.step=3", "loop.step"),
        ("data.mix={filter: 0, cat: 0}", "data.mix"),
        ("data.test=1", "test and retrieval"),
        ("model.frozen_encoder_layers=2", "frozen_encoder_layers"),
        ("model.cross_attention_layers=[1, 1]", "cross_attention_layers"),
        ("loop.precision=fp8", "loop.precision"),
        ("loop.betas=[2,0.9]", "loop.betas.0"),
    ],
)
def test_an_invalid_setting_is_named(override: str, message: str, decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tiny\.yaml") as refused:
        tiny_settings("warmup", decoder, tmp_path, override)
    assert message in str(refused.value)


def test_a_random_encoder_excludes_an_initial_reader(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.init_from"):
        tiny_settings("cepe", decoder, tmp_path, "model.init_from=runs/warmup", "model.random_encoder=true")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "45", "m", "0s", "1.5h", "-3m", "5m2h"])
def test_invalid_durations(text: str) -> None:
    with pytest.raises(ConfigError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_shipped_settings_have_names(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / path.stem).mkdir()  # not what the name means
    assert load_recipe(path.parent.name, Path(path.stem)) == load_recipe(path.parent.name, path)


def test_a_file_goes_before_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(CONFIGS / "warmup" / "paper.yaml", "tiny")
    assert load_recipe("warmup", Path("tiny")) == load_recipe("warmup", Path("paper"))


def test_a_command_runs_a_recipe_and_resumes_it(app: typer.Typer, decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    out = ["--out", str(tmp_path / "out")]
    arguments = ["--config", "tiny", f"--model.decoder={decoder}"]
    arguments += [f"--data.folder={tmp_path}", "--loop.steps=2", "--time-limit", "10m"]
    CliRunner().invoke(app, ["train", "warmup", *arguments, *out], catch_exceptions=False)
    assert (tmp_path / "out" / "reader" / "config.json").exists()
    CliRunner().invoke(app, ["train", "warmup", "--resume", *out], catch_exceptions=False)  # with its own settings
    with pytest.raises(ConfigError, match="--resume"):
        CliRunner().invoke(app, ["train", "warmup", *arguments, *out], catch_exceptions=False)


def test_the_split_is_written_by_the_settings_of_retdoc(app: typer.Typer, tmp_path: Path) -> None:
    write_documents(tmp_path)
    out = tmp_path / "retrieval.jsonl"
    arguments = ["--config", "tiny", f"--data.folder={tmp_path}", "--out", str(out)]
    result = CliRunner().invoke(app, ["train", "split", *arguments], catch_exceptions=False)
    assert result.stderr.endswith(f"{len(out.read_text().splitlines())} documents in {out}\n")


def test_every_command_explains_itself(app: typer.Typer) -> None:
    listed = CliRunner().invoke(app, ["train", "--help"]).stdout
    for command in (*READERS, "reranker", "split", "answers"):
        assert re.search(rf"\b{command} +[A-Z]", listed)
        assert "--config" in CliRunner().invoke(app, ["train", command, "--help"]).stdout


@pytest.mark.parametrize("arguments", [["dance", "--out", "x"], ["warmup"], ["split", "--out", "x"], ["answers"]])
def test_typer_reports_unknown_commands_and_missing_options(arguments: list[str], app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["train", *arguments])
    assert result.exit_code == 2
    assert "dance" in result.stderr or "Missing option" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bogus"], "--bogus"),
        (["--time-limit", "soon"], "soon"),
        (["--config", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["--config", "nowhere/tiny"], "cannot read nowhere/tiny"),
        (["--config", "huge"], "--config huge: neither a file nor one of paper, smollm2-135m, tiny"),
        ([], "--config is missing: paper, smollm2-135m, tiny, or a YAML file"),
        (["--loop.steps=3"], "model: Field required"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, app: typer.Typer) -> None:
    with pytest.raises(ConfigError) as refused:
        CliRunner().invoke(app, ["train", "warmup", "--out", "x", *arguments], catch_exceptions=False)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("below", ["", "runs/mine"])
def test_an_out_folder_that_is_a_file_is_reported_before_data_is_read(
    below: str, app: typer.Typer, tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    file.write_text("mine")
    arguments = ["--config", str(CONFIGS / "warmup" / "tiny.yaml"), "--data.folder=x", "--out", str(file / below)]
    with pytest.raises(ConfigError, match=f"{file} is a file"):
        CliRunner().invoke(app, ["train", "warmup", *arguments], catch_exceptions=False)


def test_the_commands_are_added_without_heavy_imports() -> None:
    code = "import sys, ragx_train.cli; print({'torch', 'transformers', 'accelerate'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
