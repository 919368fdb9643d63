"""Damage on the disk costs an encoding, never a wrong row."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.cepe.fresh import fresh
from ragx.cepe.placement import Placement
from ragx.cepe.store import PassageStore
from tests.helpers.store_data import open_store, put, there
from tests.helpers.tiny import SIZES, save_decoder

PASSAGES = [[1, 2, 3], [], [4], list(range(40)), [1, 2]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    store = open_store(folder)
    put(store, PASSAGES)
    store.close()
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def segment(folder: Path) -> Path:
    (path,) = folder.glob("*.segment")
    return path


def flip(path: Path, position: int, bits: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ bits]))


def check_mending(folder: Path) -> list[bool]:
    """Which passages are found; then all are stored again, and are there for good."""
    store = open_store(folder)
    found = there(store, PASSAGES)
    put(store, PASSAGES)
    assert there(store, PASSAGES) == [True] * len(PASSAGES)
    store.close()
    again = open_store(folder)
    assert there(again, PASSAGES) == [True] * len(PASSAGES)
    assert again.stats.dropped == 0
    again.close()
    return found


@settings(deadline=None, max_examples=150)
@given(data=st.data(), bits=st.integers(1, 255))
def test_a_flipped_byte_in_a_segment_costs_at_most_its_record(whole: Path, data: st.DataObject, bits: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(shutil.copytree(whole, Path(name) / "copy"))
        flip(segment(folder), data.draw(st.integers(0, segment(folder).stat().st_size - 1)), bits)
        assert sum(check_mending(folder)) >= len(PASSAGES) - 1


@settings(deadline=None, max_examples=100)
@given(data=st.data(), bits=st.integers(1, 255))
def test_a_flipped_byte_in_the_index_gives_no_wrong_row_and_no_error(
    whole: Path, data: st.DataObject, bits: int
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(shutil.copytree(whole, Path(name) / "copy"))
        index = folder / "index.sqlite"
        flip(index, data.draw(st.integers(0, index.stat().st_size - 1)), bits)
        for _ in range(2):
            store = open_store(folder)
            there(store, PASSAGES)
            put(store, PASSAGES)
            store.close()
        assert all(there(open_store(folder), PASSAGES))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_cut_segment_costs_what_was_cut_off(whole: Path, data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(shutil.copytree(whole, Path(name) / "copy"))
        length = data.draw(st.integers(0, segment(folder).stat().st_size - 1))
        with segment(folder).open("r+b") as file:
            file.truncate(length)
        found = check_mending(folder)
    assert found == sorted(found, reverse=True)
    assert not found[-1]


def test_a_segment_that_is_cut_while_it_is_mapped_is_damage(copy: Path) -> None:
    store = open_store(copy)
    assert all(there(store, PASSAGES))
    with segment(copy).open("r+b") as file:
        file.truncate(100)
    assert there(store, PASSAGES) == [False] * len(PASSAGES)
    assert store.stats.dropped == len(PASSAGES)


def test_records_in_another_order_are_not_taken_for_one_another(copy: Path) -> None:
    """Both are whole, but each lies where the index says the other is."""
    data = bytearray(segment(copy).read_bytes())
    data[0:128], data[192:320] = data[192:320], data[0:128]  # one token and three tokens take 128 bytes each
    segment(copy).write_bytes(data)
    assert check_mending(copy) == [False, True, False, True, True]


def test_damage_is_counted_said_once_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_decoder(tmp_path / "reader")
    model = fresh(tmp_path / "reader", Placement(torch.bfloat16, "cpu"), encoder_layers=(0,)).to(torch.bfloat16)
    model.attend = "cached"
    capsys.readouterr()
    folder = tmp_path / "store"

    def opened() -> PassageStore:
        return PassageStore(folder, "reader", SIZES["hidden_size"], max_bytes=1 << 20)

    passages = [[5] * 10, [6] * 10, [7] * 10]
    expected = opened().encode(model, passages).phi
    for position in (64, 64 + 640 + 64):
        flip(segment(folder), position, 1)
    store = opened()
    assert torch.equal(store.encode(model, passages).phi, expected)
    assert torch.equal(store.encode(model, passages).phi, expected)
    assert (store.stats.hits, store.stats.misses, store.stats.dropped) == (1 + 3, 2, 2)
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "damaged passage encodings" in said


@pytest.mark.parametrize("wreck", [None, b"", b"no database", b"\0" * 5000], ids=["gone", "empty", "text", "zeros"])
def test_the_index_is_made_again_from_the_segments(copy: Path, wreck: bytes | None) -> None:
    if wreck is None:
        (copy / "index.sqlite").unlink()
    else:
        (copy / "index.sqlite").write_bytes(wreck)
    assert check_mending(copy) == [True] * len(PASSAGES)


def test_an_index_that_breaks_while_it_is_in_use_is_made_again(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = open_store(copy), open_store(copy)
    assert all(there(one, PASSAGES))
    (copy / "index.sqlite").write_bytes(b"\xff" * 5000)
    for store in (one, other):
        there(store, PASSAGES)  # may find nothing, must not fail
        put(store, [[9, 9]])
        assert there(store, [*PASSAGES, [9, 9]]) == [True] * 6
    assert capsys.readouterr().err.count("made again") == 1


def test_a_store_that_is_deleted_while_it_is_in_use_starts_anew(copy: Path) -> None:
    store = open_store(copy)
    assert all(there(store, PASSAGES))
    shutil.rmtree(copy)
    there(store, PASSAGES)
    put(store, PASSAGES)
    assert all(there(store, PASSAGES))
    assert all(there(open_store(copy), PASSAGES))


def test_a_deleted_segment_costs_its_records(copy: Path) -> None:
    segment(copy).unlink()
    assert check_mending(copy) == [False] * len(PASSAGES)


def test_what_a_dead_process_left_is_cleared_away(copy: Path) -> None:
    left = copy / "0123456789abcdef.segment"
    left.write_bytes(b"never entered the index")
    put(open_store(copy), [[n] * 1000 for n in range(10)])  # one segment is enough
    segment_bytes = 1 << 20
    store = open_store(copy, max_bytes=16 * segment_bytes)
    put(store, [[n] * 2000 for n in range(100)])
    assert not left.exists()
    assert all(there(store, PASSAGES))
