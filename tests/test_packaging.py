"""Contents of the wheel, and paths in the documentation. `make lint` checks imports (pyproject.toml)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def test_a_wheel_holds_our_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "ragx",
        "ragx_kernels",
        "ragx_apps",
        "ragx_vllm",
        "ragx_train",
        "ragx_weights",
    }
    assert {"ragx/py.typed", "ragx/models/registry.toml"} <= set(names)
    settings = ROOT / "train" / "configs"
    assert {f"ragx_train/configs/{path.relative_to(settings)}" for path in settings.rglob("*.yaml")} <= set(names)


def test_an_installed_wheel_finds_its_training_settings(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    probe = "from ragx_train.cli import shipped_settings; print(*shipped_settings('reader').values(), sep='\\n')"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    names = sorted(path.name for path in (ROOT / "train" / "configs" / "reader").glob("*.yaml"))
    assert done.stdout.splitlines() == [str(tmp_path / "ragx_train" / "configs" / "reader" / name) for name in names]


def test_public_names() -> None:
    import ragx

    assert ragx.__all__ == [
        "RAG",
        "Answer",
        "Citation",
        "Hit",
        "Index",
        "Message",
        "Passage",
        "SamplingParams",
        "__version__",
        "build_index",
        "update_index",
    ]
    assert all(getattr(ragx, name) for name in ragx.__all__)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "apps/ragx_vllm/README.md",
        "docs/adapters.md",
        "docs/benchmarks.md",
        "docs/life-of-a-question.md",
        "docs/ray.md",
        "docs/results.md",
        "docs/scale.md",
        "docs/style.md",
        "indexes/README.md",
        "train/README.md",
    ],
)
def test_links_and_paths_of_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = re.findall(r"`((?:ragx|kernels|apps|train|indexes|benchmarks|docs|tests|weights)/[\w./-]+)`", text)
    assert all(((ROOT / page).parent / link).exists() for link in links)
    assert [path for path in paths if not (ROOT / path).exists()] == []
