from __future__ import annotations

import shutil
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import typer
from transformers import AutoModelForCausalLM

from tests.helpers import ROOT


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "ragx-home"))
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture(scope="session")
def decoder(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_decoder` with a larger output matrix: with one near zero, a reader could not learn anything."""
    folder = tmp_path_factory.mktemp("decoder")
    shutil.copytree(tiny_decoder, folder, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_decoder)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def app() -> typer.Typer:
    """The commands as the entry point of ragx adds them."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["ragx.commands"]["train"]
    app = typer.Typer()
    app.command("other")(lambda: None)
    EntryPoint("train", declared, "ragx.commands").load()(app)
    return app
