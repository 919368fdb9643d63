"""Raw results: measured once, written to a file, and continued where a run stopped."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from ragx.errors import ConfigError
from ragx.evaluation.results import Results, Values

RUN = {"task": "qa", "weights": "abc"}


class Measure:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Values:
        self.calls += 1
        return {"nll": self.calls}


def test_an_example_is_measured_once_per_setting(tmp_path: Path) -> None:
    for path in (None, tmp_path / "deep" / "results.json"):
        results, measure = Results(path, RUN), Measure()
        values = [results.measure(setting, "1", measure) for setting in ("a", "a", "b")]
        assert values == [{"nll": 1}, {"nll": 1}, {"nll": 2}]


def test_a_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(path, RUN).measure("a", "1", lambda: {"nll": 1.5})
    measure = Measure()
    again = Results(path, RUN)
    assert again.measure("a", "1", measure) == {"nll": 1.5}
    again.measure("a", "2", measure)
    assert measure.calls == 1
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"run": RUN},
        {"setting": "a", "example": "1", "values": {"nll": 1.5}},
        {"setting": "a", "example": "2", "values": {"nll": 1}},
    ]


def test_a_file_cut_anywhere_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results = Results(path, RUN)
    for example in "12":
        results.measure("a", example, lambda: {"nll": 7})
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        again = Results(path, RUN)
        for example in "12":
            again.measure("a", example, lambda: {"nll": 7})
        assert path.read_bytes() == whole


def test_continuing_a_file_does_not_rewrite_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(path, RUN).measure("a", "1", lambda: {"nll": 7})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"setting": "a", "exam')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))  # rewriting the file fails after 8 bytes, as on a full disk
    try:
        Results(path, RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == whole


def test_results_of_another_run_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(path, RUN)
    with pytest.raises(ConfigError, match="weights 'abc'"):
        Results(path, RUN | {"weights": "xyz"})
    with pytest.raises(ConfigError, match="index None"):
        Results(path, RUN | {"index": "i"})


@pytest.mark.parametrize("content", ["notes of mine", "notes\nof mine", '{"run": 1}\n', '{"run": {}}\n[1]\n', "[]\n"])
def test_a_file_without_results_is_refused_and_unchanged(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(ConfigError, match="results of"):
        Results(path, RUN)
    assert path.read_text() == content


def test_a_folder_cannot_hold_results(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot use"):
        Results(tmp_path, RUN)
