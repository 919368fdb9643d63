"""The rooms: what a wheel holds, and who may import whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for room in ("ragx", "kernels", "apps", "train") for path in (ROOT / room).rglob("*.py"))
LAYERS = [
    "types",
    "models",
    "corpus",
    "retrieval",
    "cepe",
    "distributed",
    "reader",
    "rag",
    "langchain",
    "evaluation",
    "cli",
]
"""A module imports from its own layer and those before it; base modules are free to all."""
APART = [{"corpus", "retrieval", "cepe"}]
"""Layers that do not import one another."""


def imported_by(path: Path) -> set[str]:
    """Dotted names of our modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0].startswith("ragx")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    allowed = {"kernels": {"ragx_kernels"}, "ragx": {"ragx", "ragx_kernels"}}
    roots = {name.split(".")[0] for name in imported_by(path)}
    assert roots <= allowed.get(room, {"ragx", "ragx_kernels", f"ragx_{room}"})
    if room != "ragx":
        return
    own = path.relative_to(ROOT / "ragx").parts[0].removesuffix(".py")
    others = {name.split(".")[1] for name in imported_by(path) if name.count(".")} & set(LAYERS) - {own}
    if own in LAYERS:
        assert others <= set(LAYERS[: LAYERS.index(own)])
    for group in APART:
        if own in group:
            assert not others & group


def test_a_wheel_holds_our_four_packages_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "ragx",
        "ragx_kernels",
        "ragx_apps",
        "ragx_train",
    }
    assert {"ragx/py.typed", "ragx/models/registry.toml"} <= set(names)


def test_public_names() -> None:
    import ragx

    assert ragx.__all__ == ["RAG", "Answer", "Citation", "Hit", "Passage", "__version__"]
    assert all(getattr(ragx, name) for name in ragx.__all__)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/benchmarks.md",
        "docs/ray.md",
        "docs/results.md",
        "docs/scale.md",
        "indexes/README.md",
        "train/README.md",
    ],
)
def test_what_a_page_links_or_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = re.findall(r"`((?:ragx|kernels|apps|train|indexes|benchmarks|docs|tests)/[\w./-]+)`", text)
    assert all(((ROOT / page).parent / link).exists() for link in links)
    assert [path for path in paths if not (ROOT / path).exists()] == []
