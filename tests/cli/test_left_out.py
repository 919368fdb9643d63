"""Nothing that a build leaves out goes unsaid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from ragx.index import Index
from tests.helpers.command import Run


def build(ragx: Callable[..., Run], *arguments: str | Path) -> Run:
    return ragx("index", "build", *arguments, "--index", Path("index").absolute())


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text, two files of formats that ragx does not read, and a damaged PDF."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "snow.txt").write_text("Snow is white.")
    (folder / "photo.PNG").write_bytes(b"\x89PNG")
    (folder / "sound.flac").write_bytes(b"fLaC")
    (folder / "bad.pdf").write_bytes(b"%PDF-1.7 broken")
    return folder


def test_unsupported_files_are_counted_by_suffix(ragx: Callable[..., Run], corpus: Path) -> None:
    run = build(ragx, corpus)
    assert run.code == 3
    assert "2 files of unsupported formats left out: 1 .flac, 1 .png" in run.err
    assert "index formats" in run.err


def test_a_document_that_lacks_something_is_not_called_skipped(ragx: Callable[..., Run], corpus: Path) -> None:
    (corpus / "damaged.txt").write_bytes("Schnee ist weiß. ".encode() * 20 + b"\xff")
    run = build(ragx, corpus)
    assert run.code == 3
    assert f"read in part: {corpus}/damaged.txt: 1 byte" in run.err
    assert f"skipped {corpus}/damaged.txt" not in run.err
    assert "3 files or rows skipped, 1 read in part" in run.err
    listed = ragx("index", "docs", "--skipped", "--index", "./index").out
    assert f"read in part: {corpus}/damaged.txt: 1 byte" in listed


def test_documents_and_what_was_skipped_are_listed(ragx: Callable[..., Run], corpus: Path) -> None:
    build(ragx, corpus)
    (document,) = json.loads(ragx("index", "docs", "--index", "./index", "--json").out)
    assert (document["id"], document["passages"]) == ("snow.txt", 1)
    assert document["metadata"].keys() >= {"modified"}
    assert "snow.txt  (1 passage)" in ragx("index", "docs", "--index", "./index").out
    skipped = json.loads(ragx("index", "docs", "--skipped", "--index", "./index", "--json").out)
    assert {Path(each["source"]).name for each in skipped} == {"photo.PNG", "sound.flac", "bad.pdf"}
    assert all(each["reason"] for each in skipped)
    (corpus / "bad.pdf").unlink()
    ragx("index", "update", "--index", "./index")
    assert "bad.pdf" not in ragx("index", "docs", "--skipped", "--index", "./index").out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["corpus/bad.pdf"], "bad.pdf: is not a PDF"),
        (["corpus/photo.PNG"], "unsupported format"),
        (["corpus", "--include", "*.doc"], "1 .txt"),
        (["corpus", "--exclude", "*"], "--exclude *"),
        (["empty"], "no file was found"),
    ],
)
def test_an_index_of_nothing_is_refused_with_the_reasons(
    ragx: Callable[..., Run], corpus: Path, arguments: list[str], reason: str
) -> None:
    Path("empty").mkdir()
    run = build(ragx, *arguments)
    assert run.code == 2
    (line,) = run.err.splitlines()
    assert "there are no passages to index" in line
    assert reason in line


def test_rows_skipped_for_one_reason_are_one_line(ragx: Callable[..., Run], corpus: Path) -> None:
    (corpus / "rows.jsonl").write_text('{"id": 1, "text": "Ice."}\n' + '{"id": 2}\n' * 1000)
    run = build(ragx, corpus / "rows.jsonl")
    assert run.code == 3
    assert len([line for line in run.err.splitlines() if "rows.jsonl" in line]) == 1
    assert "1,000 rows" in run.err


def test_archives_are_named_with_the_option_that_reads_them(ragx: Callable[..., Run], corpus: Path) -> None:
    (corpus / "bad.pdf").unlink()
    with ZipFile(corpus / "old.zip", "w") as archive:
        archive.writestr("notes/ice.txt", "Ice is blue.")
    assert "--archives" in build(ragx, corpus).err
    assert "old.zip" not in build(ragx, corpus, "--archives", "--replace").err

    def documents() -> list[str]:
        return [document["id"] for document in json.loads(ragx("index", "docs", "--index", "./index", "--json").out)]

    assert documents() == ["old.zip/notes/ice.txt", "snow.txt"]
    assert "0 added" in ragx("index", "update", "--index", "./index").err  # as the archive has not changed
    with ZipFile(corpus / "old.zip", "w") as archive:
        archive.writestr("rain.txt", "Rain is wet.")
    ragx("index", "update", "--index", "./index")
    assert sorted(documents()) == ["old.zip/rain.txt", "snow.txt"]


def test_an_update_reads_comments_as_the_build_did(ragx: Callable[..., Run], corpus: Path) -> None:
    def write_comment(text: str) -> None:
        (corpus / "rents.rtf").write_text(f"{{\\rtf1 Rents.{{\\*\\annotation {text}}}\\par}}")

    def texts() -> list[str]:
        index = Index.open(Path("index"))
        return [passage.text for passage in index.passages(index.rows().tolist()) if "Rents" in passage.text]

    write_comment("In euros.")
    build(ragx, corpus)
    assert texts() == ["Rents."]
    build(ragx, corpus, "--comments", "--replace")
    assert texts() == ["Rents.\n\nComment: In euros."]
    write_comment("In crowns.")
    ragx("index", "update", "--index", "./index")
    assert texts() == ["Rents.\n\nComment: In crowns."]


def test_texts_that_the_default_embedder_does_not_know_are_noticed_once(ragx: Callable[..., Run], corpus: Path) -> None:
    german = (
        "Das alte Haus am Markt hat sieben Zimmer und einen Keller, in dem der Wein lagert. Die Leute im Dorf erzählen,"
        " dass dort früher eine Schule war und dass der Lehrer im Winter selbst das Holz holte."
    )
    assert "--embedder" not in build(ragx, corpus).err
    for name in ("haus", "hof"):
        (corpus / f"{name}.txt").write_text(f"{name} {german}")
    run = build(ragx, corpus, "--replace")
    (line,) = [line for line in run.err.splitlines() if "--embedder multilingual-minilm" in line]
    assert "not in English" in line
    assert "all-minilm-l6-v2" in line


def test_the_formats_are_listed(ragx: Callable[..., Run]) -> None:
    assert ".pdf" in ragx("index", "formats").out
    assert ".pdf" in json.loads(ragx("index", "formats", "--json").out)["pdf"]
