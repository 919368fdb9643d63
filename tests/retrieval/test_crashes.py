"""kill -9 at any step of a build or update: readers see a whole index, and the next one continues."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SHARD = 3


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """One for each step at which a build or update was killed."""
    script = Path(__file__).with_name("crash_points.py")
    run = subprocess.run(
        [sys.executable, script, tmp_path_factory.mktemp("crashes")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_builds_and_updates_are_killed_at_many_steps(outcomes: list[dict[str, object]]) -> None:
    killed = Counter(outcome["start"] for outcome in outcomes)
    assert set(killed) == {"empty", "started", "updated", "thinned"}
    assert min(killed.values()) > 5
    assert killed["started"] > 80


def test_readers_see_the_old_index_or_the_new_one(outcomes: list[dict[str, object]]) -> None:
    seen = {(outcome["start"], outcome["left"]) for outcome in outcomes}
    assert seen == {(start, left) for start in ("empty", "started", "updated", "thinned") for left in ("old", "new")}


def test_the_next_writer_ends_as_if_nothing_had_happened(outcomes: list[dict[str, object]]) -> None:
    assert [outcome for outcome in outcomes if not outcome["resumed"]] == []


def test_finished_shards_are_not_embedded_again(outcomes: list[dict[str, object]]) -> None:
    """At most the one shard whose vectors were not yet on the disk is embedded twice."""
    twice = [int(str(outcome["twice"])) for outcome in outcomes]
    assert set(twice) <= {0, 1, SHARD}
    assert twice.count(0) > len(twice) / 2
