"""The container files: checked by linters, and against the command line and the package that they name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.command import RunCommand

ROOT = Path(__file__).parents[1]


def _services(name: str) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["services"]
    return services


SERVICES = _services("compose.yaml")


def test_the_dockerfile_follows_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    if hadolint is None:
        pytest.skip("hadolint is not installed; `make install` has it on x86-64 Linux")
    checked = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_compose_files_follow_the_compose_specification(name: str) -> None:
    pytest.importorskip("check_jsonschema")
    schema = ["--builtin-schema", "vendor.compose-spec"]  # part of the package: nothing is downloaded
    command = [sys.executable, "-m", "check_jsonschema", *schema, str(ROOT / name)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_services_run_commands_and_options_that_exist(service: str, run_command: RunCommand) -> None:
    run = run_command(*SERVICES[service]["command"], "--help")  # unknown options are errors even then
    assert run.code == 0, run.err


def test_cuda_services_are_those_of_compose() -> None:
    assert _services("compose.cuda.yaml").keys() == SERVICES.keys()


def test_a_secret_is_never_written_down() -> None:
    secrets = {**SERVICES["serve"]["environment"], **SERVICES["chat"]["environment"]}
    assert secrets.keys() == {"RAGX_TOKEN", "RAGX_CHAT_AUTH"}
    assert all(value.startswith(f"${{{name}:?") for name, value in secrets.items())


def test_images_are_built_from_the_packages_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {path.split("/")[0] for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    copied = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == packages | {"LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
