"""An updated index equals a new one, and only new text is embedded."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from ragx.config import IndexSettings
from ragx.errors import ConfigError, CorpusError, IndexFolderError
from ragx.index import collect_garbage
from ragx.indexing.build import build
from ragx.indexing.delete import delete
from ragx.indexing.update import update
from tests.helpers.notes import LengthEmbedder, generation, passages_in, rows, write


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write(
        tmp_path / "notes",
        {"snow.txt": " ".join(f"snow{n}" for n in range(12)), "deep/soil.txt": "Dark soil.", "sea.txt": "Blue sea."},
    )
    return tmp_path / "notes"


@pytest.fixture
def index(corpus: Path, tmp_path: Path, embedder: LengthEmbedder) -> Path:
    folder = tmp_path / "index"
    build([corpus], folder, settings(), strict=True)
    embedder.embedded.clear()
    return folder


def settings(**values: object) -> IndexSettings:
    return IndexSettings.model_validate({"chunking": {"size": 5}, "shard_size": 2, **values})


def test_new_changed_and_vanished_documents(
    index: Path, corpus: Path, tmp_path: Path, embedder: LengthEmbedder
) -> None:
    write(corpus, {"sea.txt": "Green sea.", "deep/new.txt": "New words."})
    (corpus / "deep/soil.txt").unlink()
    report = update(index)
    assert embedder.embedded == ["deep/new.txt#0", "sea.txt#0"]
    assert (report.added, report.deleted, report.unchanged) == (2, 2, 3)
    build([corpus], tmp_path / "rebuilt", settings())
    assert passages_in(index) == passages_in(tmp_path / "rebuilt")


def test_nothing_is_published_without_changes(index: Path, corpus: Path) -> None:
    before = generation(index)
    for paths in ([], [corpus]):
        report = update(index, paths)
        assert (report.added, report.deleted, report.unchanged) == (0, 0, 5)
    assert generation(index) == before


def test_a_text_that_only_moves_is_not_embedded_again(index: Path, corpus: Path, embedder: LengthEmbedder) -> None:
    write(corpus, {"sea.txt": "\n\n\nBlue sea."})
    assert update(index).added == 1
    assert embedder.embedded == []
    assert passages_in(index)["sea.txt#0"].start == 3


def test_a_duplicate_takes_the_place_of_what_vanished(index: Path, corpus: Path, embedder: LengthEmbedder) -> None:
    write(corpus, {"z.txt": "Blue sea."})
    assert update(index).added == 0
    (corpus / "sea.txt").unlink()
    update(index)
    assert "z.txt#0" in passages_in(index)
    assert "sea.txt#0" not in passages_in(index)


def test_the_working_folder_does_not_matter(index: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus.parent)
    build(["notes"], Path("other"), settings())
    monkeypatch.chdir(corpus)
    assert update(corpus.parent / "other").unchanged == 5
    assert update(index, ["../notes"]).unchanged == 5


def test_other_folders_are_added_updated_and_left_alone(
    index: Path, corpus: Path, tmp_path: Path, embedder: LengthEmbedder
) -> None:
    more = tmp_path / "more"
    write(more, {"snow.txt": "Other words.", "again.txt": "Blue sea."})
    report = update(index, [more], keep=True)
    assert embedder.embedded == ["more/snow.txt#0"]
    assert report.counts.duplicates == 1
    write(more, {"snow.txt": "Changed.", "ice.txt": "Ice."})
    update(index)
    assert passages_in(index)["more/snow.txt#0"].text == "Other words."
    update(index, [more])
    assert passages_in(index)["more/snow.txt#0"].text == "Changed."
    (more / "ice.txt").unlink()
    update(index, [more], keep=True)
    assert "more/ice.txt#0" in passages_in(index)
    update(index, [more])
    assert "more/ice.txt#0" not in passages_in(index)
    assert "snow.txt#0" in passages_in(index)


def test_a_document_that_became_shorter_loses_its_last_passages_also_when_added(index: Path, corpus: Path) -> None:
    write(corpus, {"snow.txt": "snow"})
    update(index, [corpus], keep=True)
    assert [id for id in passages_in(index) if id.startswith("snow")] == ["snow.txt#0"]


def test_a_document_whose_id_belongs_to_another_place_gets_one_of_its_own(index: Path, tmp_path: Path) -> None:
    write(tmp_path, {"snow.txt": "Other words."})
    report = update(index, [tmp_path / "snow.txt"])
    assert (report.skipped, len(report.notes)) == ([], 1)
    assert passages_in(index)["snow.txt#0"].source == f"{tmp_path}/notes/snow.txt"
    assert passages_in(index)["snow.txt/snow.txt#0"].source == f"{tmp_path}/snow.txt"


def test_unreadable_files_keep_their_passages(index: Path, corpus: Path, tmp_path: Path) -> None:
    (corpus / "sea.txt").unlink()
    (corpus / "sea.txt").symlink_to(tmp_path / "not mounted")
    report = update(index)
    assert [(skipped.source, skipped.unreadable) for skipped in report.skipped] == [(f"{corpus}/sea.txt", True)]
    assert passages_in(index)["sea.txt#0"].text == "Blue sea."
    with pytest.raises(CorpusError, match="cannot be read"):
        update(index, strict=True)


def test_passages_of_an_emptied_file_are_deleted(index: Path, corpus: Path) -> None:
    write(corpus, {"sea.txt": ""})
    update(index)
    assert "sea.txt#0" not in passages_in(index)


def test_ids_stay_when_a_source_file_vanishes(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.txt": "one", "b/x.txt": "two"})
    build([tmp_path / "a/x.txt", tmp_path / "b/x.txt"], tmp_path / "index", settings())
    (tmp_path / "b/x.txt").unlink()
    assert update(tmp_path / "index").deleted == 1
    assert list(passages_in(tmp_path / "index")) == ["a/x.txt#0"]


def test_nothing_is_deleted_when_a_disk_is_missing(index: Path, corpus: Path) -> None:
    before = passages_in(index)
    moved = corpus.rename(corpus.with_name("moved"))
    with pytest.raises(CorpusError, match="cannot read"):
        update(index)
    corpus.mkdir()
    with pytest.raises(CorpusError, match="nothing was changed"):
        update(index)
    assert passages_in(index) == before
    update(index, [moved])  # ids are the same but for the folder's name


def test_all_files_may_be_replaced_at_once(index: Path, corpus: Path) -> None:
    for path in corpus.rglob("*.txt"):
        path.unlink()
    write(corpus, {"new.txt": "New words."})
    assert (update(index).added, list(passages_in(index))) == (1, ["new.txt#0"])


def test_a_path_inside_a_source_is_refused(index: Path, corpus: Path) -> None:
    with pytest.raises(ConfigError, match="lies in"):
        update(index, [corpus / "sea.txt"])


def test_the_text_of_a_deleted_document_leaves_the_disk(index: Path, corpus: Path) -> None:
    assert delete(index, ["sea.txt", str(corpus / "deep")]) == 2
    assert sorted(passages_in(index)) == ["snow.txt#0", "snow.txt#1", "snow.txt#2"]
    collect_garbage(index, quiet=True)
    assert {path.name for path in index.iterdir()} == {"CURRENT", "LOCK", generation(index).name}
    for path in index.rglob("*"):
        assert path.is_dir() or not any(word in path.read_bytes() for word in (b"Dark soil", b"Blue sea", b'"soil"'))


def test_a_file_that_moves_is_not_embedded_again(index: Path, corpus: Path, embedder: LengthEmbedder) -> None:
    (corpus / "snow.txt").rename(corpus / "deep/snow.txt")
    report = update(index)
    assert (report.added, report.deleted) == (3, 3)
    assert embedder.embedded == []
    assert sorted(passages_in(index)) == [*(f"deep/snow.txt#{n}" for n in range(3)), "deep/soil.txt#0", "sea.txt#0"]


def test_an_index_inside_its_source_is_not_indexed(corpus: Path) -> None:
    write(corpus, {"gen-9/manifest.json": "{}", "gen-9/page.txt": "A folder of someone else's."})
    folder = corpus / "index"
    for _ in range(2):
        assert not any(str(folder) in skipped.source for skipped in build([corpus], folder, settings()).skipped)
    report = update(folder)
    assert (report.added, report.deleted) == (0, 0)
    assert not any(str(folder) in skipped.source for skipped in report.skipped)
    assert "gen-9/page.txt#0" in passages_in(folder)


def test_an_empty_or_ambiguous_name_deletes_nothing(index: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(corpus, {"deep/sea.txt": "Deep sea."})
    update(index)
    before = passages_in(index)
    monkeypatch.chdir(corpus / "deep")
    for name in ("", " "):
        with pytest.raises(IndexFolderError, match="nothing was deleted"):
            delete(index, [name])
    with pytest.raises(IndexFolderError, match="is another"):
        delete(index, ["sea.txt"])
    assert passages_in(index) == before
    assert delete(index, [str(corpus / "sea.txt")]) == 1
    assert "deep/sea.txt#0" in passages_in(index)


def test_an_unknown_document_is_one_line_and_deletes_nothing(index: Path) -> None:
    before = passages_in(index)
    with pytest.raises(IndexFolderError, match="'owl'"):
        delete(index, ["sea.txt", "owl"])
    assert passages_in(index) == before


def test_an_update_sees_what_was_published_before_it_got_the_lock(
    index: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the same text would be indexed twice."""
    write(tmp_path / "more", {"again.txt": "New words."})
    write(corpus, {"new.txt": "New words."})

    def acquire_second(lock: FileLock) -> object:
        monkeypatch.undo()
        update(index, [tmp_path / "more"], keep=True)
        return lock.acquire()

    monkeypatch.setattr(FileLock, "acquire", acquire_second)
    assert update(index).counts.duplicates == 1
    assert [passage.id for passage in passages_in(index).values() if passage.text == "New words."] == [
        "more/again.txt#0"
    ]


def test_the_second_row_with_an_id_gets_another_and_the_third_is_skipped(tmp_path: Path) -> None:
    write(tmp_path, {"rows.jsonl": rows(("1", "a"), ("1", "b"), ("1", "c"), ("2", "d"))})
    report = build([tmp_path / "rows.jsonl"], tmp_path / "index", settings())
    assert [passage.text for passage in passages_in(tmp_path / "index").values()] == ["a", "b", "d"]
    assert ["'1'" in skipped.reason for skipped in report.skipped] == [True]


def test_ten_changed_rows_of_a_file_are_embedded_and_written_as_one_shard(
    tmp_path: Path, embedder: LengthEmbedder
) -> None:
    corpus, folder = tmp_path / "corpus", tmp_path / "index"
    texts = {f"row{number}": f"Text of row {number}." for number in range(300)}
    write(corpus, {"rows.jsonl": rows(*texts.items())})
    build([corpus], folder, settings(shard_size=50))
    before = {path.relative_to(folder / "gen-0001"): path.stat().st_ino for path in (folder / "gen-0001").rglob("*.*")}
    embedder.embedded.clear()
    changed = [f"row{number}" for number in range(5, 300, 30)]
    write(corpus, {"rows.jsonl": rows(*(texts | {id: f"Other text of {id}." for id in changed}).items())})
    update(folder)
    assert embedder.embedded == [f"{id}#0" for id in changed]
    after = {path.relative_to(folder / "gen-0002"): path.stat().st_ino for path in (folder / "gen-0002").rglob("*.*")}
    written = {path.parts[0] for path, inode in after.items() if before.get(path) != inode}
    assert {name for name in written if name.startswith("shard-")} == {"shard-00006"}
