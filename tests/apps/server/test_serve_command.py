"""`ragx serve` and `ragx mcp` as a user types them wrongly: one line, exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ragx.cli import main as cli


def mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    monkeypatch.setattr(sys, "argv", ["ragx", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return str(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--token", ""], "the token must be one or more printable ASCII characters"),
        (["serve", "--token", "tök"], "the token must be one or more printable ASCII characters"),
        (["serve", "-k", "0"], "k: must be greater than or equal to 1, got 0"),
        (["serve", "--method", "magic"], "method: 'magic' is not one of"),
        (["serve", "--allow-origin", "*"], "--allow-origin must be the origin of a page"),
        (["serve", "--allow-origin", "http://localhost:3000/v1"], "--allow-origin must be the origin of a page"),
        (["mcp", "--method", "magic"], "method: 'magic' is not one of"),
        (["serve", "--engine", "spark"], "engine: 'spark' is not one of"),
        (["serve", "--address", "auto"], "--address"),
        (["serve", "--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1"),
        (["serve", "--index", "nowhere"], "no index at "),
        (["mcp", "--index", "nowhere"], "no index at "),
    ],
)
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (line,) = mistake(monkeypatch, capsys, *arguments).splitlines()
    assert line.startswith(f"ragx: {message}")


@pytest.mark.parametrize(("command", "package"), [("serve", "fastapi"), ("mcp", "mcp")])
def test_a_missing_package_is_named_by_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install 'ragx[{command}]'" in mistake(monkeypatch, capsys, command)


def test_an_address_that_others_reach_without_a_token_is_said() -> None:
    from ragx_apps.server.protection import is_loopback

    assert all(map(is_loopback, ["127.0.0.1", "localhost", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "example.org", "192.168.0.1"]))  # noqa: S104
