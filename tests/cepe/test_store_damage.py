"""Damage on the disk costs an encoding, never a wrong row."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.cepe.fresh import fresh
from ragx.cepe.placement import Placement
from ragx.cepe.store import PassageStore
from ragx.cepe.store.rows import pack
from tests.helpers.store_data import open_store, put, there, vectors
from tests.helpers.tiny import SIZES, save_decoder

PASSAGES = [[1, 2, 3], [], [4], list(range(400)), [1, 2]]


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


def database(folder: Path) -> Path:
    return folder / "passages.sqlite"


def flip(path: Path, position: int, bits: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ bits]))


def check_recovery(folder: Path) -> list[bool]:
    """Which passages are found; then all are stored again and stay."""
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


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(data=st.data(), bits=st.integers(1, 255))
def test_a_flipped_byte_in_a_payload_costs_its_record(whole: Path, data: st.DataObject, bits: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(shutil.copytree(whole, Path(name) / "copy"))
        damaged = data.draw(st.sampled_from([n for n, tokens in enumerate(PASSAGES) if 0 < len(tokens) < 100]))
        payload = pack(vectors(PASSAGES[damaged]), "bfloat16").tobytes()
        start = database(folder).read_bytes().index(payload)
        flip(database(folder), start + data.draw(st.integers(0, len(payload) - 1)), bits)
        assert check_recovery(folder) == [n != damaged for n in range(len(PASSAGES))]


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(data=st.data(), bits=st.integers(1, 255))
def test_a_flipped_byte_gives_no_wrong_row_and_no_error(whole: Path, data: st.DataObject, bits: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(shutil.copytree(whole, Path(name) / "copy"))
        content = database(folder).read_bytes()
        used = [n for n, byte in enumerate(content) if byte]  # most of each page is empty
        flip(database(folder), data.draw(st.sampled_from(used)), bits)
        for _ in range(2):
            store = open_store(folder)
            there(store, PASSAGES)
            put(store, PASSAGES)
            store.close()
        store = open_store(folder)
        assert all(there(store, PASSAGES))
        store.close()


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_truncated_database_gives_no_wrong_row_and_no_error(whole: Path, data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(shutil.copytree(whole, Path(name) / "copy"))
        length = data.draw(st.integers(0, database(folder).stat().st_size - 1))
        with database(folder).open("r+b") as file:
            file.truncate(length)
        check_recovery(folder)


def test_payloads_that_changed_places_are_not_mistaken_for_one_another(copy: Path) -> None:
    """Both are intact, but each belongs to the other's key."""
    with sqlite3.connect(database(copy)) as connection:
        connection.execute("UPDATE payloads SET id = -id")
        connection.execute("UPDATE payloads SET id = CASE id WHEN -1 THEN 3 WHEN -3 THEN 1 ELSE -id END")
    assert check_recovery(copy) == [False, True, False, True, True]


def test_damage_is_counted_said_once_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_decoder(tmp_path / "reader")
    model = fresh(tmp_path / "reader", Placement(torch.bfloat16, "cpu"), encoder_layers=(0,)).to(torch.bfloat16)
    model.attention_strategy = "cached"
    capsys.readouterr()
    folder = tmp_path / "store"

    def opened() -> PassageStore:
        return PassageStore(folder, "reader", SIZES["hidden_size"], max_bytes=1 << 20)

    passages = [[5] * 10, [6] * 10, [7] * 10]
    expected = opened().encode(model, passages).phi
    with sqlite3.connect(database(folder)) as connection:
        connection.execute("UPDATE payloads SET checksum = checksum + 1 WHERE id < 3")
    store = opened()
    assert torch.equal(store.encode(model, passages).phi, expected)
    assert torch.equal(store.encode(model, passages).phi, expected)
    assert (store.stats.hits, store.stats.misses, store.stats.dropped) == (1 + 3, 2, 2)
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "damaged passage encodings" in said


@pytest.mark.parametrize("wreck", [None, b"", b"no database", b"\0" * 5000], ids=["gone", "empty", "text", "zeros"])
def test_a_lost_database_is_started_anew(copy: Path, wreck: bytes | None) -> None:
    if wreck is None:
        database(copy).unlink()
    else:
        database(copy).write_bytes(wreck)
    assert check_recovery(copy) == [False] * len(PASSAGES)


def test_a_database_that_breaks_while_in_use_is_started_anew(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = open_store(copy), open_store(copy)
    assert all(there(one, PASSAGES))
    database(copy).write_bytes(b"\xff" * 5000)
    for store in (one, other):
        there(store, PASSAGES)  # may find nothing, must not fail
        put(store, [*PASSAGES, [9, 9]])
        assert all(there(store, [*PASSAGES, [9, 9]]))
    assert capsys.readouterr().err.count("started anew") == 1


def test_a_store_that_is_deleted_while_in_use_starts_anew(copy: Path) -> None:
    store = open_store(copy)
    assert all(there(store, PASSAGES))
    shutil.rmtree(copy)
    there(store, PASSAGES)
    put(store, PASSAGES)
    put(store, PASSAGES)
    assert all(there(store, PASSAGES))
    assert all(there(open_store(copy), PASSAGES))


def test_a_locked_database_gives_one_notice_and_no_error(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragx.cepe.store.records.LOCK_SECONDS", 0.01)
    store = open_store(copy)
    with sqlite3.connect(database(copy), isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert there(store, PASSAGES) == [False] * len(PASSAGES)
        put(store, [[9, 9]])
        connection.execute("ROLLBACK")
    assert all(there(store, PASSAGES))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_files_of_the_former_layout_are_left_alone(copy: Path) -> None:
    (copy / "0123456789abcdef.segment").write_bytes(b"RGX1")
    assert check_recovery(copy) == [True] * len(PASSAGES)
    assert (copy / "0123456789abcdef.segment").read_bytes() == b"RGX1"
