"""`ragx serve`, `ragx mcp` and `ragx chat` with a mistake in them: one line, exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers.command import RunCommand


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--token", ""], "the token must be one or more printable ASCII characters"),
        (["serve", "--token", "tök"], "the token must be one or more printable ASCII characters"),
        (["serve", "-k", "0"], "k: must be greater than or equal to 1, got 0"),
        (["serve", "--method", "magic"], "method: 'magic' is not one of"),
        (["serve", "--allow-origin", "*"], "--allow-origin must be the origin of a page"),
        (["serve", "--allow-origin", "http://localhost:3000/v1"], "--allow-origin must be the origin of a page"),
        (["serve", "--host", "0.0.0.0"], "other machines can reach 0.0.0.0"),  # noqa: S104
        (["mcp", "--method", "magic"], "method: 'magic' is not one of"),
        (["serve", "--engine", "spark"], "engine: 'spark' is not one of"),
        (["serve", "--address", "auto"], "--address"),
        (["serve", "--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1"),
        (["serve", "--index", "nowhere"], "no index at "),
        (["mcp", "--index", "nowhere"], "no index at "),
        (["chat", "--host", "0.0.0.0"], "other machines can reach 0.0.0.0"),  # noqa: S104
        (["chat", "--auth", "ada"], "--auth must be USER:PASSWORD"),
        (["chat", "--index", "nowhere"], "no index at "),
        (["chat", "--model", "no-such-model", "--offline"], ""),
    ],
)
def test_a_mistake_is_one_line(run_command: RunCommand, arguments: list[str], message: str) -> None:
    code, out, err = run_command(*arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"ragx: {message}")


@pytest.mark.parametrize("command", ["serve", "mcp", "chat"])
def test_an_index_is_found_by_its_name(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path))
    _, _, err = run_command(command, "--index", "papers")
    assert f"no index at {tmp_path}" in err
    assert "indexes/papers" in err


@pytest.mark.parametrize("command", [["ask", "Who?"], ["serve"], ["mcp"], ["chat"]])
def test_a_missing_index_is_reported_before_a_model_is_looked_for(run_command: RunCommand, command: list[str]) -> None:
    code, _, err = run_command(*command, "--index", "nowhere", "--model", "no-such-model", "--offline")
    assert code == 2
    assert err.startswith("ragx: no index at ")


@pytest.mark.parametrize("command", [["ask", "Who?"], ["serve"], ["chat"]])
def test_a_filter_that_cannot_be_read_is_reported_before_a_model_is_looked_for(
    run_command: RunCommand, command: list[str]
) -> None:
    code, _, err = run_command(*command, "--where", "year >", "--model", "no-such-model", "--offline")
    assert code == 2
    assert err.startswith("ragx: where: ")


@pytest.mark.parametrize(("command", "package"), [("serve", "fastapi"), ("mcp", "mcp"), ("chat", "gradio")])
def test_a_missing_package_is_named_by_its_extra(
    monkeypatch: pytest.MonkeyPatch, run_command: RunCommand, command: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = run_command(command)
    assert code == 2
    assert f"pip install 'ragx[{command}]'" in err


def test_loopback_addresses_are_recognised() -> None:
    from ragx_apps.server.protection import is_loopback

    assert all(map(is_loopback, ["127.0.0.1", "localhost", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "example.org", "192.168.0.1"]))  # noqa: S104
