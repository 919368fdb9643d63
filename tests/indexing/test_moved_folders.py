"""A source folder that was moved is followed: its documents keep their ids, vectors and place in the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx.errors import CorpusError
from ragx.index import read_manifest
from ragx.indexing.delete import delete
from ragx.indexing.update import update
from tests.helpers.notes import index_notes, passages_in, write


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """An index of a folder that has since been moved from `old` to `new`."""
    write(tmp_path / "old", {"a.txt": "Blue sea.", "deep/b.txt": "Fresh snow"})
    index_notes(tmp_path / "old", tmp_path / "index")
    (tmp_path / "old").rename(tmp_path / "new")
    return tmp_path / "index"


def test_documents_name_their_new_place_and_later_updates_look_there(moved: Path, tmp_path: Path) -> None:
    report = update(moved, [tmp_path / "new"])
    assert any(str(tmp_path / "old") in note for note in report.notes)
    assert {passage.source for passage in passages_in(moved).values()} == {
        str(tmp_path / "new/a.txt"),
        str(tmp_path / "new/deep/b.txt"),
    }
    assert read_manifest(moved).settings.sources == [str(tmp_path / "new")]
    write(tmp_path / "new", {"c.txt": "Warm rain"})
    assert update(moved).added == 1


def test_files_deleted_and_changed_since_the_move_are_updated(moved: Path, tmp_path: Path) -> None:
    (tmp_path / "new/a.txt").unlink()
    write(tmp_path / "new", {"deep/b.txt": "Old snow"})
    update(moved, [tmp_path / "new"])
    assert [passage.text for passage in passages_in(moved).values()] == ["Old snow"]


def test_a_deleted_document_stays_deleted(moved: Path, tmp_path: Path) -> None:
    delete(moved, ["a.txt"])
    update(moved, [tmp_path / "new"])
    assert [passage.text for passage in passages_in(moved).values()] == ["Fresh snow"]


def test_another_folder_is_added_instead(moved: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", {"z.txt": "Dark soil"})
    assert update(moved, [tmp_path / "other"]).notes == []
    assert {"a.txt#0", "other/z.txt#0"} < passages_in(moved).keys()


def test_nothing_is_guessed_without_a_new_place(moved: Path) -> None:
    with pytest.raises(CorpusError, match="old"):
        update(moved)
