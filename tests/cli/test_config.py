"""`ragx config`: the user's own defaults of options, and what goes before them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ragx.cli.defaults import config_file
from tests.helpers.command import QUESTION, Run, RunCommand

BM25 = ("--method", "bm25", "--rerank", "none")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "own" / "config.toml"
    monkeypatch.setenv("RAGX_CONFIG", str(path))
    monkeypatch.delenv("RAGX_INDEX", raising=False)
    return path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


def hits(run: Run) -> int:
    assert run.code == 0
    return len(json.loads(run.out)["hits"])


def test_without_a_file_there_are_no_defaults(ragx: RunCommand, file: Path) -> None:
    run = ragx("config")
    assert (run.code, run.out) == (0, f"{file}\n")
    assert "ragx config set" in run.err


def test_defaults_are_set_shown_and_unset(ragx: RunCommand, file: Path) -> None:
    for option, value in [("--k", "20"), ("prompt-passages", "3"), ("bits", "4"), ("stop", '["a", "é"]')]:
        assert ragx("config", "set", "--", option, value) == Run(0, "", "")
    assert ragx("config").out.splitlines() == [
        str(file),
        "k = 20",
        "prompt_passages = 3",
        "bits = 4",
        'stop = ["a", "é"]',
    ]
    assert ragx("config", "unset", "k") == Run(0, "", "")
    assert json.loads(ragx("config", "--json").out) == {
        "file": str(file),
        "values": {"prompt_passages": 3, "stop": ["a", "é"], "bits": 4},
    }


def test_layout_and_comments_of_the_file_stay(ragx: RunCommand, file: Path) -> None:
    write(file, "# the work laptop\nk = 20  # enough\nmethod = 'bm25'\n")
    assert ragx("config", "set", "k", "30").code == 0
    assert ragx("config", "unset", "method").code == 0
    assert ragx("config", "set", "temperature", "0.5").code == 0
    assert file.read_text() == "# the work laptop\nk = 30  # enough\ntemperature = 0.5\n"


def test_a_link_to_the_file_stays(ragx: RunCommand, file: Path, tmp_path: Path) -> None:
    write(file, "")
    file.rename(tmp_path / "dotfiles.toml")
    file.symlink_to(tmp_path / "dotfiles.toml")
    assert ragx("config", "set", "k", "30").code == 0
    assert file.is_symlink()
    assert (tmp_path / "dotfiles.toml").read_text() == "k = 30\n"


def test_the_command_line_goes_before_the_file(ragx: RunCommand, file: Path, index: Path) -> None:
    write(file, f"index = '{index}'\nk = 1\nmethod = 'bm25'\nrerank = 'none'\n")
    assert hits(ragx("search", "sunlight soil snow", "--json")) == 1
    assert hits(ragx("search", "sunlight soil snow", "--json", "-k", "2")) == 2


def test_an_index_on_the_command_line_or_in_the_environment_goes_before_the_file_s(
    ragx: RunCommand, file: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, "index = './absent'\n")
    assert ragx("search", "snow", *BM25).err.startswith("ragx: no index at absent")
    assert ragx("search", "snow", *BM25, "--index", index).code == 0
    monkeypatch.setenv("RAGX_INDEX", str(index))
    assert ragx("search", "snow", *BM25).code == 0
    assert ragx("config").out.splitlines() == [str(file), f'index = "{index}"  (RAGX_INDEX)']


def test_help_shows_the_defaults_in_force(ragx: RunCommand, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write(file, "k = 7\nmodel = 'owl'\n")
    for command in (["ask"], ["search"], ["serve"]):
        help_text = ragx(*command, "--help").out
        assert "[default: 7]" in help_text
        assert "[default: owl]" in help_text


@pytest.mark.parametrize("command", [["eval", "qa"], ["eval", "retrieval"], ["index", "tune"]])
def test_evaluations_and_other_options_of_that_name_keep_theirs(
    ragx: RunCommand, file: Path, command: list[str]
) -> None:
    plain = ragx(*command, "--help")
    write(file, "k = 7\nmodel = 'owl'\nmethod = 'bm25'\nrerank = 'none'\n")
    assert ragx(*command, "--help") == plain


def test_defaults_of_the_search_do_not_contradict_whole_documents(ragx: RunCommand, file: Path, tmp_path: Path) -> None:
    write(file, "index = 'papers'\nk = 7\nmethod = 'bm25'\n")
    run = ragx("ask", QUESTION, "--document", tmp_path / "absent.txt")
    assert "absent.txt" in run.err
    assert "no index is searched" in ragx("ask", QUESTION, "--document", "x", "-k", "7").err


def test_the_address_is_that_of_the_file_s_model(ragx: RunCommand, file: Path, index: Path) -> None:
    write(file, f"index = '{index}'\nmodel = 'openai:m'\nbase_url = 'http://owl.test/v1'\n")
    assert "http://owl.test/v1 is on the network" in ragx("ask", QUESTION, *BM25, "--offline").err
    run = ragx("ask", QUESTION, *BM25, "--model", "no such model")
    assert run.err.startswith("ragx: unknown model 'no such model'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kk = 3", "unknown option 'kk'; did you mean k?"),
        ("frugal = true", "unknown option 'frugal'"),
        ("k = 0", "k: must be greater than or equal to 1, got 0"),
        ("k = 'many'", "k: must be a valid integer"),
        ("method = 'owl'", "method: 'owl' is not one of"),
        ("[search]\nk = 3", "unknown option 'search'"),
        ("k = ", "is not valid TOML"),
        ("k = 1\nk = 2", "is not valid TOML"),
        ("base_url = 'http://localhost'", "base_url goes with a model"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_it(ragx: RunCommand, file: Path, text: str, message: str) -> None:
    write(file, text)
    for command in (["search", "snow"], ["index", "list"], ["config"], ["config", "set", "seed", "1"]):
        run = ragx(*command)
        assert (run.code, run.out) == (2, "")
        assert run.err.startswith(f"ragx: {file}")
        assert message in run.err
        assert run.err.count("\n") == 1


def test_a_mistake_in_the_file_can_be_mended(ragx: RunCommand, file: Path) -> None:
    write(file, "k = 0\nkk = 1\n")
    assert ragx("config", "unset", "kk").code == 0
    assert ragx("config", "set", "k", "5").code == 0
    assert file.read_text() == "k = 5\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set", "kk", "3"], "unknown option 'kk'; did you mean k?"),
        (["set", "json", "true"], "unknown option 'json'"),
        (["set", "k", "0"], "k: must be greater than or equal to 1, got 0"),
        (["set", "k", "["], "k: '[' is not a valid YAML value"),
        (["set", "device", ""], "`ragx config unset device`"),
        (["unset", "k"], "k is not set in"),
        (["unset", "kk"], "unknown option 'kk'"),
    ],
)
def test_a_mistake_on_the_command_line_leaves_the_file(
    ragx: RunCommand, file: Path, arguments: list[str], message: str
) -> None:
    write(file, "seed = 1\n")
    run = ragx("config", *arguments)
    assert (run.code, run.out) == (2, "")
    assert message in run.err
    assert file.read_text() == "seed = 1\n"


def test_folders_are_kept_as_absolute_paths_and_names_as_names(
    ragx: RunCommand, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reader").mkdir()
    values = {"index": "./notes", "model": "reader", "device": "reader", "decoder": "smollm2-135m-instruct"}
    for option, value in values.items():
        assert ragx("config", "set", option, value).code == 0
    expected = {**values, "index": str(tmp_path / "notes"), "model": str(tmp_path / "reader")}
    assert json.loads(ragx("config", "--json").out)["values"] == expected
    assert ragx("config", "set", "index", "notes").code == 0
    assert 'index = "notes"' in file.read_text()


def test_what_is_no_regular_file_has_no_defaults_and_takes_none(
    ragx: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGX_CONFIG", "/dev/null")
    assert ragx("config").out == "/dev/null\n"
    assert "/dev/null is not a regular file" in ragx("config", "set", "k", "3").err


def test_the_file_is_in_the_user_s_configuration_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAGX_CONFIG", "RAGX_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/settings")
    assert config_file() == Path("/settings/ragx/config.toml")
    monkeypatch.setenv("RAGX_HOME", "/ragx")
    assert config_file() == Path("/ragx/config.toml")


def test_doctor_says_what_ask_would_use(ragx: RunCommand, file: Path) -> None:
    write(file, "k = 7\nmodel = 'ollama:owl'\ndtype = 'float32'\n")
    uses = json.loads(ragx("doctor", "--json", "--offline").out)["ask uses"]
    assert (uses["k"], uses["model"], uses["backend"]) == (7, "ollama:owl", "behind an API")
    assert re.match("float32", uses["dtype"])
