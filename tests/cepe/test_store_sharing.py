"""A store shared by processes, and one whose processes are killed or cannot write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from ragx.cepe.fresh import fresh
from ragx.cepe.placement import Placement
from ragx.cepe.store import PassageStore, each_batch
from tests.helpers import ROOT
from tests.helpers.store_data import is_stored, open_store, put
from tests.helpers.tiny import SIZES, save_decoder


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[int, str]]:
    """Exit code and stderr of each function of store_processes.py."""
    command = [sys.executable, "-m", "tests.helpers.store_processes"]
    with TemporaryDirectory() as folder:  # tmp_path is accessible to its owner only
        process = subprocess.run([*command, folder], capture_output=True, text=True, check=False, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    outcomes: dict[str, tuple[int, str]] = json.loads(process.stdout)
    return outcomes


def notices(outcome: tuple[int, str]) -> list[str]:
    """The lines on stderr, after checking the exit code."""
    code, text = outcome
    assert code == 0, text
    return text.splitlines()


def test_processes_share_a_store_too_small_for_them(outcomes: dict[str, tuple[int, str]]) -> None:
    assert notices(outcomes["share_small_store"]) == []


def test_passages_encoded_by_two_processes_are_stored_once(outcomes: dict[str, tuple[int, str]]) -> None:
    assert notices(outcomes["encode_same_passages"]) == []


def test_a_killed_writer_loses_at_most_its_current_passage(outcomes: dict[str, tuple[int, str]]) -> None:
    assert notices(outcomes["killed"]) == []


def test_a_full_disk_stops_writing_with_one_notice(outcomes: dict[str, tuple[int, str]]) -> None:
    (line,) = notices(outcomes["full_disk"])
    assert "cannot write" in line
    assert "without a cache" in line


def test_a_read_only_folder_gives_one_notice_at_the_first_write(outcomes: dict[str, tuple[int, str]]) -> None:
    (line,) = notices(outcomes["read_only"])
    assert "cannot write" in line


def test_questions_are_answered_without_a_usable_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_decoder(tmp_path / "reader")
    model = fresh(tmp_path / "reader", Placement(torch.bfloat16, "cpu"), encoder_layers=(0,)).to(torch.bfloat16)
    model.attention_strategy = "cached"
    capsys.readouterr()
    (tmp_path / "file").write_text("in the way")
    store = PassageStore(tmp_path / "file" / "store", "reader", SIZES["hidden_size"], max_bytes=1 << 20)
    with torch.no_grad():
        expected = model.encode_passages([[5, 6], [7]]).phi
    for _ in range(2):
        torch.testing.assert_close(model.encode_passages([[5, 6], [7]], store).phi, expected)
    assert not store.fill([[5, 6]], each_batch(lambda batch: model.encode_rows(batch, store.format))).complete
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_threads_share_a_store(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    store = open_store(tmp_path, 1_000_000)

    def work(seed: int) -> None:
        for n in range(100):
            tokens = [seed % 3, n]
            is_stored(store, [tokens])
            put(store, [tokens])
            assert is_stored(store, [tokens]) == [True]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert store.stats.dropped == 0
