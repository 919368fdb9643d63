"""An index survives kill -9, failing writes, damaged files, and readers during updates. `make torture` tries more."""

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
    figures: Figures = json.loads(run.stdout)
    return figures


def test_a_killed_writer_causes_no_damage_loss_or_duplicates(figures: Figures) -> None:
    kills = figures["kills"]
    assert kills["kills"] == 25
    assert min(kills[f"steps of {name}"] for name in ("build", "rebuild", "update", "delete", "compact", "gc")) > 20
    assert (kills["damaged"], kills["lost_or_doubled"], kills["orphans"]) == (0, 0, 0)


def test_a_failing_write_publishes_nothing_and_names_the_path(figures: Figures) -> None:
    faults = figures["faults"]
    assert faults["faults"] > 40
    assert faults["refused"] > 0.7 * faults["faults"]  # failing to delete old files is not an error
    assert (faults["half_published"], faults["lost_or_doubled"]) == (0, 0)
    assert (faults["tracebacks"], faults["unnamed"]) == (0, 0)


def test_damage_to_any_file_is_detected_and_causes_no_wrong_answer(figures: Figures) -> None:
    mutations = figures["mutations"]
    assert mutations["kinds"] == 14
    assert mutations["mutations"] == 4 * mutations["kinds"]
    assert (mutations["undetected"], mutations["silently_wrong"], mutations["tracebacks"]) == (0, 0, 0)


def test_each_reader_sees_one_generation_while_others_are_published(figures: Figures) -> None:
    readers = figures["readers"]
    assert readers["queries"] >= 300
    assert readers["editions_seen_by_one_reader"] > 1
    assert (readers["mixed"], readers["exceptions"], readers["died"]) == (0, 0, 0)
