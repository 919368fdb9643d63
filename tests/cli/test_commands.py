"""All commands: help, mistakes, missing packages, models and the machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.command import QUESTION, Run, RunCommand


def test_help_answers_without_loading_torch() -> None:
    probe = "import sys; from ragx.cli.main import main; sys.argv = ['ragx', '--help']\n"
    probe += "try: main()\nexcept SystemExit: pass\n"
    heavy = "print(sorted({'torch', 'transformers', 'faiss', 'numpy', 'datasets'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe + heavy], capture_output=True, text=True, check=True)
    assert "ask" in done.stdout
    assert done.stderr.strip() == "[]"


def test_h_is_help_for_every_command(ragx: RunCommand) -> None:
    for command in ([], ["ask"], ["index"], ["index", "build"]):
        assert ragx(*command, "-h") == ragx(*command, "--help")


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        (["ask"], ["Options", "Search", "Reader", "Decoding", "Model", "Passage encodings", "Ray cluster"]),
        (["chat"], ["Options", "Model", "Passage encodings", "Search", "Server"]),
        (["eval", "qa"], ["Options", "Model", "Passage encodings", "Rows of the table", "Search"]),
        (["index", "build"], ["Options", "Indexing", "Files", "Model", "Passage encodings", "Ray cluster"]),
        (["search"], ["Options", "Search", "Model", "Ray cluster"]),
        (["serve"], ["Options", "Search", "Model", "Passage encodings", "Server", "Reader", "Ray cluster"]),
    ],
)
def test_options_are_listed_in_groups(
    ragx: RunCommand, monkeypatch: pytest.MonkeyPatch, command: list[str], groups: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    help_text = ragx(*command, "--help").out
    assert [group for group in re.findall(r"^╭─ (.+?) ─", help_text, re.MULTILINE) if group != "Arguments"] == groups
    assert max(map(len, help_text.splitlines())) == 80


@pytest.mark.parametrize(
    ("typed", "offered"), [("ragx summ", ["summarise"]), ("ragx ask --eff", ["--effort"]), ("ragx index inf", ["info"])]
)
def test_the_shell_completes_commands_and_options(typed: str, offered: list[str]) -> None:
    probe = "import sys; from ragx.cli.main import main; sys.argv = ['ragx']; main()"
    words = {"_RAGX_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env={**os.environ, **words})
    assert done.stdout.split() == offered


def test_models_are_listed_with_their_sources(ragx: RunCommand) -> None:
    rows = {row["name"]: row for row in json.loads(ragx("models", "list", "--json").out)}
    assert set(rows) >= {
        *("ceped-smollm2-135m", "smollm2-135m-instruct", "all-minilm-l6-v2", "contriever", "contriever-msmarco"),
        *("cepe-llama-2-7b", "ceped-llama-2-chat-7b"),
    }
    path = ragx("models", "path", "smollm2-135m-instruct").out.strip()
    assert (Path(path) / "model.safetensors").is_file()


def test_doctor_says_what_ask_would_use(ragx: RunCommand) -> None:
    findings = json.loads(ragx("doctor", "--json", "--offline").out)
    assert findings["ask uses"]["model"] == "ceped-smollm2-135m"
    assert findings["hub"] == "offline: not checked"
    assert "smollm2-135m-instruct" in findings["models"]
    assert findings["packages"]["torch"]
    assert findings["vectors"].startswith("searched on the CPU")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "  "], "the question is empty"),
        (["ask", QUESTION, "-k", "0"], "k: must be"),
        (["ask", QUESTION, "--prompt-passages", "-1"], "prompt_passages: must be"),
        (["ask", QUESTION, "--reader", "owl"], "reader: 'owl' is not one of"),
        (["ask", QUESTION, "--method", "owl"], "method: 'owl' is not one of"),
        (["ask", QUESTION, "--index", "absent"], "no index at "),
        (["ask", QUESTION, "--index", "INDEX", "--model", "no such model"], "unknown model 'no such model'"),
        (["ask", QUESTION, "--index", "INDEX", "--dtype", "int3"], "dtype: 'int3' is not one of"),
        (
            ["ask", QUESTION, "--index", "INDEX", "--attention-strategy", "owl"],
            "attention_strategy: 'owl' is not",
        ),
        (["ask", QUESTION, "--index", "INDEX", "--top-p", "2"], "top_p: "),
        (["ask", QUESTION, "--index", "INDEX", "--seed", "99999999999999999999"], "seed: "),
        (["ask", QUESTION, "--index", "INDEX", "--device", "owl"], "device 'owl' is not available"),
        (["ask", QUESTION, "--index", "INDEX", "--cache-size", "inf"], "cache_size: must be a finite number"),
        (["ask", QUESTION, "--index", "INDEX", "--stop", ""], "stop"),
        (["search", "", "--index", "INDEX"], "the question is empty"),
        (["search", "x", "--index", "INDEX", "--method", "bm25", "--dtype", "float99"], "dtype: 'float99' is not"),
        (["search", "x", "--index", "INDEX", "--method", "bm25", "--device", "owl"], "device 'owl' is not available"),
        (["index", "build", ".", "--shard-sze", "3"], "unknown option --shard-sze"),
        (["index", "build"], "nothing to index"),
        (["index", "build", "absent"], "absent: No such file or directory"),
        (["index", "build", ".", "--chunking.sise=3"], "unknown setting 'chunking.sise'"),
        (["index", "build", ".", "--faiss", "Flatt"], "Flatt"),
        (["index", "build", ".", "--embedder", "smollm2-135m-instruct"], "an embedder"),
        (["index", "build", ".", "--model", "owl"], "--model requires --encode"),
        (["index", "build", ".", "--bits", "4"], "--bits requires --encode"),
        (["index", "build", ".", "--encodings", "int8"], "--encodings requires --encode"),
        (["index", "build", ".", "--cache-size", "4.0"], "--cache-size requires --encode"),
        (["index", "info", "--index", "absent"], "no index at "),
        (["index", "rm", "--index", "absent"], "no index at "),
        (["index", "rm", "--index", "absent", "--yes"], "no index at "),
        (["index", "update", "--index", "absent"], "no index at "),
        (["index", "update", "absent", "--index", "INDEX"], "absent: No such file or directory"),
        (["index", "delete", "owl", "--index", "INDEX"], "no document, file or folder 'owl'"),
        (["index", "delete", "", "--index", "INDEX"], "must not be empty"),
        (["index", "gc", "--index", "absent"], "no index at "),
        (["index", "compact", "--index", "absent"], "no index at "),
        (["index", "repair", "--index", "absent"], "no index at "),
        (["models", "path", "owl"], "unknown model 'owl'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    ragx: RunCommand,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("Some text.")
    run = ragx(*(str(index) if argument == "INDEX" else argument for argument in arguments))
    assert run.code == 2
    assert run.out == ""
    (line,) = [line for line in run.err.splitlines() if not line.startswith("the reader around")]
    assert line.startswith("ragx: ")
    assert message in line


def test_output_that_cannot_be_written_is_no_traceback(index: Path) -> None:
    command = f"{sys.executable} -m ragx index info --index {index}"
    gone = subprocess.run(
        f"{command} | true; exit ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash", capture_output=True
    )
    assert (gone.returncode, gone.stderr) == (0, b"")
    full = subprocess.run(f"{command} >/dev/full", shell=True, capture_output=True)
    assert full.returncode == 2
    assert full.stderr == b"ragx: cannot write: No space left on device\n"


def test_characters_that_the_terminal_lacks_become_question_marks(index: Path) -> None:
    search = ["search", "open sea", "--method", "bm25", "--rerank", "none", "--index", index]
    command = [sys.executable, "-m", "ragx", *search]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"     ?Sea === The open sea looks blue" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "spark"], "engine: 'spark' is not one of"),
        (["--address", "auto"], "--address"),
    ],
)
def test_an_unknown_engine_is_one_line(
    ragx: RunCommand, notes: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    others = [
        ["search", "snow", "--index", tmp_path],
        ["ask", "snow", "--index", tmp_path],
        ["index", "update", "--index", tmp_path],
    ]
    for command in (["index", "build", notes, "--index", tmp_path / "index"], *others):
        run = ragx(*command, *options)
        assert (run.code, run.out) == (2, "")
        assert run.err.startswith("ragx: ")
        assert message in run.err
    assert not (tmp_path / "index").exists()


def test_without_ray_its_engine_says_what_to_install(
    ragx: RunCommand, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "ray" or name.startswith("ragx.distributed")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("ragx.distributed", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
    run = ragx("index", "build", notes, "--index", tmp_path / "index", "--engine", "ray")
    assert run == Run(2, "", "ragx: `--engine ray` needs another package: pip install 'ragx[ray]'\n")


def write_package(folder: Path, name: str, command: str) -> None:
    """A package, as pip installs it in `folder`, whose command needs a missing module."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[ragx.commands]\n{command} = needs_{command}:add_to\n")
    (folder / f"needs_{command}.py").write_text("import nowhere_to_be_found\n")


@pytest.mark.parametrize(("package", "mend"), [("ragx", "ragx[sing]"), ("ragx-songs", "ragx-songs")])
def test_a_command_that_cannot_be_loaded_says_what_to_install(tmp_path: Path, package: str, mend: str) -> None:
    write_package(tmp_path, package, "sing")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "ragx", *arguments]
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)

    failed = run("sing", "--loud", "a song")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        f"ragx: `ragx sing` cannot be loaded (No module named 'nowhere_to_be_found'): pip install '{mend}'\n"
    )
    others = run("models", "list")
    assert others.returncode == 0
    assert "smollm2-135m-instruct" in others.stdout
