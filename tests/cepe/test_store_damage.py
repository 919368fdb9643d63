"""Damage on disk loses encodings, but never yields wrong rows."""

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
from tests.helpers.store_data import is_stored, open_store, put, rows_of
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
    """Which passages are still stored; then check that all can be stored again."""
    store = open_store(folder)
    stored = is_stored(store, PASSAGES)
    put(store, PASSAGES)
    assert is_stored(store, PASSAGES) == [True] * len(PASSAGES)
    store.close()
    reopened = open_store(folder)
    assert is_stored(reopened, PASSAGES) == [True] * len(PASSAGES)
    assert reopened.stats.dropped == 0
    reopened.close()
    return stored


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(data=st.data(), bits=st.integers(1, 255))
def test_a_flipped_byte_in_a_payload_loses_its_record(whole: Path, data: st.DataObject, bits: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(shutil.copytree(whole, Path(name) / "copy"))
        damaged = data.draw(st.sampled_from([n for n, tokens in enumerate(PASSAGES) if 0 < len(tokens) < 100]))
        payload = rows_of(PASSAGES[damaged]).tobytes()
        start = database(folder).read_bytes().index(payload)
        flip(database(folder), start + data.draw(st.integers(0, len(payload) - 1)), bits)
        assert check_recovery(folder) == [n != damaged for n in range(len(PASSAGES))]


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(data=st.data(), bits=st.integers(1, 255))
def test_a_flipped_byte_causes_no_wrong_rows_and_no_error(whole: Path, data: st.DataObject, bits: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(shutil.copytree(whole, Path(name) / "copy"))
        content = database(folder).read_bytes()
        used = [n for n, byte in enumerate(content) if byte]  # most of each page is empty
        flip(database(folder), data.draw(st.sampled_from(used)), bits)
        for _ in range(3):
            store = open_store(folder)
            is_stored(store, PASSAGES)  # may miss some: SQLite does not detect every damaged index page
            put(store, PASSAGES)
            store.close()


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_truncated_database_causes_no_wrong_rows_and_no_error(whole: Path, data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(shutil.copytree(whole, Path(name) / "copy"))
        length = data.draw(st.integers(0, database(folder).stat().st_size - 1))
        with database(folder).open("r+b") as file:
            file.truncate(length)
        check_recovery(folder)


def test_swapped_payloads_are_detected(copy: Path) -> None:
    """Both payloads are intact, but each belongs to the other's key."""
    with sqlite3.connect(database(copy)) as connection:
        connection.execute("UPDATE payloads SET id = -id")
        connection.execute("UPDATE payloads SET id = CASE id WHEN -1 THEN 3 WHEN -3 THEN 1 ELSE -id END")
    assert check_recovery(copy) == [False, True, False, True, True]


def test_damage_is_counted_repaired_and_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_decoder(tmp_path / "reader")
    model = fresh(tmp_path / "reader", Placement(torch.bfloat16, "cpu"), encoder_layers=(0,)).to(torch.bfloat16)
    model.attention_strategy = "cached"
    capsys.readouterr()
    folder = tmp_path / "store"

    def open_reader_store() -> PassageStore:
        return PassageStore(folder, "reader", SIZES["hidden_size"], max_bytes=1 << 20)

    passages = [[5] * 10, [6] * 10, [7] * 10]
    expected = model.encode_passages(passages, open_reader_store()).phi
    with sqlite3.connect(database(folder)) as connection:
        connection.execute("UPDATE payloads SET checksum = checksum + 1 WHERE id < 3")
    store = open_reader_store()
    repaired = model.encode_passages(passages, store).phi
    torch.testing.assert_close(repaired, expected)
    assert torch.equal(model.encode_passages(passages, store).phi, repaired)
    assert (store.stats.hits, store.stats.misses, store.stats.dropped) == (1 + 3, 2, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert "damaged passage encodings" in line


@pytest.mark.parametrize("content", [None, b"", b"no database", b"\0" * 5000], ids=["gone", "empty", "text", "zeros"])
def test_a_lost_database_is_replaced(copy: Path, content: bytes | None) -> None:
    if content is None:
        database(copy).unlink()
    else:
        database(copy).write_bytes(content)
    assert check_recovery(copy) == [False] * len(PASSAGES)


def test_a_database_damaged_while_in_use_is_replaced(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = open_store(copy), open_store(copy)
    assert all(is_stored(stores[0], PASSAGES))
    database(copy).write_bytes(b"\xff" * 5000)
    for store in stores:
        is_stored(store, PASSAGES)  # may find nothing, must not fail
        put(store, [*PASSAGES, [9, 9]])
        assert all(is_stored(store, [*PASSAGES, [9, 9]]))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_store_deleted_while_in_use_is_replaced(copy: Path) -> None:
    store = open_store(copy)
    assert all(is_stored(store, PASSAGES))
    shutil.rmtree(copy)
    is_stored(store, PASSAGES)
    put(store, PASSAGES)
    put(store, PASSAGES)
    assert all(is_stored(store, PASSAGES))
    assert all(is_stored(open_store(copy), PASSAGES))


def test_a_locked_database_gives_one_notice_and_no_error(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragx.cepe.store.database.LOCK_SECONDS", 0.01)
    store = open_store(copy)
    with sqlite3.connect(database(copy), isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert is_stored(store, PASSAGES) == [False] * len(PASSAGES)
        put(store, [[9, 9]])
        connection.execute("ROLLBACK")
    assert all(is_stored(store, PASSAGES))
    assert len(capsys.readouterr().err.splitlines()) == 1
