"""Cached models are complete or absent, whatever happens during and after a download."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Hub, Outcome

    Run = Callable[..., Outcome]
    Start = Callable[..., subprocess.Popen[str]]
    Finished = Callable[[subprocess.Popen[str]], Outcome]
    Stored = Callable[[], list[str]]


def test_concurrent_processes_download_a_model_once(
    hub: Hub, start: Start, finished: Finished, tiny_bert: Path, tmp_path: Path
) -> None:
    hub.serve("tiny/bert", tiny_bert)
    hub.stalled_path = "model.safetensors"
    hub.stall.clear()
    first = start("pull", "tiny/bert")
    assert hub.reached_stall.wait(60)
    logs = [tmp_path / "second", tmp_path / "third"]
    others = [start("pull", "tiny/bert", stderr=path.open("w")) for path in logs]
    deadline = time.monotonic() + 60
    while not all("waiting" in path.read_text() for path in logs):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    hub.stall.set()
    outcomes = [finished(process) for process in (first, *others)]
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert hub.downloads("model.safetensors") == 1
    for path in logs:
        assert len(path.read_text().splitlines()) == 1


def test_a_killed_download_leaves_no_model_and_the_next_one_removes_its_leftovers(
    hub: Hub, start: Start, run: Run, home: Path, tiny_bert: Path
) -> None:
    hub.serve("tiny/bert", tiny_bert)
    hub.serve("tiny/other", tiny_bert)
    hub.stalled_path = "model.safetensors"
    hub.stall.clear()
    process = start("pull", "tiny/bert")
    assert hub.reached_stall.wait(60)
    process.kill()
    process.wait()
    assert not (home / "models/tiny--bert").exists()
    assert [path.name for path in (home / "models").iterdir()] == [".partial-tiny--bert"]
    hub.stall.set()
    assert run("pull", "tiny/other").error is None
    assert [path.name for path in (home / "models").iterdir()] == ["tiny--other"]
    assert run("pull", "tiny/bert").error is None


def test_a_full_disk_is_reported_and_nothing_stays(
    hub: Hub, start: Start, finished: Finished, home: Path, stored: Stored, tiny_bert: Path
) -> None:
    import resource

    repository = hub.serve("tiny/bert", tiny_bert)
    limit = len(repository.files["model.safetensors"]) // 2
    process = start("pull", "tiny/bert", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert "File too large" in str(finished(process).error)
    assert stored() == []
    assert not list((home / "models").iterdir())


def test_a_damaged_model_is_reported_and_pull_repairs_it(hub: Hub, run: Run, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    weights = Path(run("pull", "tiny/bert").value) / "model.safetensors"
    original = weights.read_bytes()

    weights.write_bytes(original[:100])
    error = str(run("resolve", "tiny/bert", "embedder").error)
    assert "model.safetensors has 100 bytes" in error
    assert "run `ragx models pull tiny/bert`" in error
    assert run("pull", "tiny/bert").error is None
    assert weights.read_bytes() == original

    for path in (weights, weights.with_name("config.json")):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert run("pull", "tiny/bert").error is None
        assert path.read_bytes() == content

    shutil.rmtree(weights.parent)
    weights.parent.mkdir()
    assert "run `ragx models pull tiny/bert`" in str(run("resolve", "tiny/bert", "embedder").error)
    assert run("pull", "tiny/bert").error is None
    assert weights.read_bytes() == original
