"""What an index survives: kill -9, failing writes, damaged files, readers during updates. `make torture` tries more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers import ROOT

Figures = dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def figures() -> Figures:
    command = [sys.executable, "-m", "tests.helpers.torture"]
    options = ["--kills", "25", "--stride", "37", "--mutations", "4", "--updates", "6", "--queries", "300"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    found: Figures = json.loads(run.stdout)
    return found


def test_a_killed_writer_damages_loses_and_doubles_nothing(figures: Figures) -> None:
    found = figures["kills"]
    assert found["kills"] == 25
    assert min(found[f"steps of {name}"] for name in ("build", "rebuild", "update", "delete", "compact", "gc")) > 20
    assert (found["damaged"], found["lost_or_doubled"], found["orphans"]) == (0, 0, 0)


def test_a_failing_write_publishes_nothing_half_and_names_the_path(figures: Figures) -> None:
    found = figures["faults"]
    assert found["faults"] > 40
    assert found["refused"] > 0.7 * found["faults"]  # a failure to delete what is old is no failure
    assert (found["half_published"], found["lost_or_doubled"]) == (0, 0)
    assert (found["tracebacks"], found["unnamed"]) == (0, 0)


def test_damage_to_any_file_is_found_and_gives_no_wrong_answer(figures: Figures) -> None:
    found = figures["mutations"]
    assert found["kinds"] == 14
    assert found["mutations"] == 4 * found["kinds"]
    assert (found["undetected"], found["silently_wrong"], found["tracebacks"]) == (0, 0, 0)


def test_readers_see_one_generation_each_while_others_are_published(figures: Figures) -> None:
    found = figures["readers"]
    assert found["queries"] >= 300
    assert found["editions_seen_by_one_reader"] > 1
    assert (found["mixed"], found["exceptions"], found["died"]) == (0, 0, 0)
