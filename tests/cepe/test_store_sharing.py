"""A store outlives the processes that use it: together, killed, on a full disk, in a folder they may not write."""

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
from ragx.cepe.store import PassageStore
from tests.helpers import ROOT
from tests.helpers.store_data import open_store, put, there
from tests.helpers.tiny import SIZES, save_decoder


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[int, str]]:
    """Exit code and stderr of each function of store_processes.py."""
    command = [sys.executable, "-m", "tests.helpers.store_processes"]
    with TemporaryDirectory() as folder:  # pytest's own lies where only its owner may look
        done = subprocess.run([*command, folder], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, str]] = json.loads(done.stdout)
    return found


def said(outcome: tuple[int, str]) -> list[str]:
    """The lines on stderr of what went well."""
    code, text = outcome
    assert code == 0, text
    return text.splitlines()


def test_processes_share_a_store_that_is_too_small_for_them(outcomes: dict[str, tuple[int, str]]) -> None:
    assert said(outcomes["hammer"]) == []


def test_what_two_processes_encode_at_once_is_stored_once(outcomes: dict[str, tuple[int, str]]) -> None:
    assert said(outcomes["both_encode_the_same"]) == []


def test_a_killed_writer_loses_at_most_what_it_was_writing(outcomes: dict[str, tuple[int, str]]) -> None:
    assert said(outcomes["killed"]) == []


def test_a_full_disk_stops_only_writing_with_one_notice(outcomes: dict[str, tuple[int, str]]) -> None:
    (line,) = said(outcomes["full_disk"])
    assert "cannot write passage encodings" in line
    assert "without a cache" in line


def test_a_read_only_folder_gives_one_notice_at_the_first_write(outcomes: dict[str, tuple[int, str]]) -> None:
    (line,) = said(outcomes["read_only"])
    assert "cannot write passage encodings" in line


def test_a_question_is_answered_where_no_folder_can_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_decoder(tmp_path / "reader")
    model = fresh(tmp_path / "reader", Placement(torch.bfloat16, "cpu"), encoder_layers=(0,)).to(torch.bfloat16)
    model.attention_strategy = "cached"
    capsys.readouterr()
    (tmp_path / "file").write_text("in the way")
    store = PassageStore(tmp_path / "file" / "store", "reader", SIZES["hidden_size"], max_bytes=1 << 20)
    with torch.no_grad():
        expected = model.encode_passages([[5, 6], [7]]).phi
    for _ in range(2):
        assert torch.equal(store.encode(model, [[5, 6], [7]]).phi, expected)
    assert not store.fill(model, [[5, 6]]).complete
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_threads_share_a_store(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    store = open_store(tmp_path, 1_000_000)

    def work(seed: int) -> None:
        for n in range(100):
            tokens = [seed % 3, n]
            there(store, [tokens])
            put(store, [tokens])
            assert there(store, [tokens]) == [True]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert store.stats.dropped == 0
