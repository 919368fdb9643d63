"""An index follows its folders: changes, deletions, half-written files, other writers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ragx.errors import ConfigError, IndexFolderError
from ragx.index import Index
from ragx.indexing import watch as indexing_watch
from ragx.indexing.build import build
from ragx.indexing.watch import watch, watching
from ragx.rag import RAG
from ragx.retrieval import open_index
from ragx.util.files import writer_lock
from tests.helpers.notes import write
from tests.helpers.waiting import eventually


def documents(index: Path) -> dict[str, str]:
    if not (index / "CURRENT").exists():
        return {}
    return {passage.document: passage.text for passage in Index.open(index).live_passages()}


@contextmanager
def followed(index: Path, *paths: Path) -> Iterator[list[str]]:
    """Watch in a thread; yields the log."""
    log: list[str] = []
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(index, paths), kwargs={"log": log.append, "stop": stop})
    thread.start()
    try:
        assert eventually(lambda: bool(log))
        yield log
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    write(tmp_path / "notes", {"snow.txt": "White snow.", "soil.txt": "Dark soil."})
    return tmp_path / "notes"


@pytest.fixture
def index(tmp_path: Path, notes: Path) -> Path:
    build([notes], tmp_path / "index")
    return tmp_path / "index"


def test_each_change_is_indexed_and_logged(index: Path, notes: Path) -> None:
    with followed(index) as log:
        assert log == [f"watching: 2 files, 2 passages in {index}"]
        (notes / "sea.txt").write_text("Blue sea.")
        assert eventually(lambda: f"indexed {notes / 'sea.txt'}" in log)
        assert documents(index) == {"sea.txt": "Blue sea.", "snow.txt": "White snow.", "soil.txt": "Dark soil."}
        (notes / "soil.txt").unlink()
        assert eventually(lambda: f"removed {notes / 'soil.txt'}" in log)
        (notes / "draft").write_text("Grey snow.")
        (notes / "draft").replace(notes / "snow.txt")  # as editors save
        assert eventually(lambda: f"indexed {notes / 'snow.txt'}" in log)
        assert documents(index) == {"sea.txt": "Blue sea.", "snow.txt": "Grey snow."}
        assert len(log) == 4


def test_changes_that_come_together_are_one_update(index: Path, notes: Path) -> None:
    before = len([*index.glob("gen-*")])
    with followed(index) as log:
        for n in range(30):
            (notes / f"note{n}.txt").write_text(f"Note {n}.")
        assert eventually(lambda: len(documents(index)) == 32 and log[-1].startswith("and "))
    assert len([*index.glob("gen-*")]) <= before + 2  # the first may come between two files
    assert [line for line in log if line.startswith("indexed")][:1] == [f"indexed {notes / 'note0.txt'}"]


def test_a_file_that_is_half_written_is_read_when_it_is_whole(index: Path, notes: Path, pdf: bytes) -> None:
    with followed(index) as log:
        (notes / "report.pdf").write_bytes(pdf[: len(pdf) // 2])
        assert eventually(lambda: any(line.startswith(f"skipped {notes / 'report.pdf'}") for line in log))
        (notes / "report.pdf").write_bytes(pdf)
        assert eventually(lambda: f"indexed {notes / 'report.pdf'}" in log)
        assert "Fresh snow" in documents(index)["report.pdf"]


@pytest.fixture
def pdf(tmp_path: Path) -> bytes:
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(tmp_path / "made.pdf"))
    canvas.drawString(72, 720, "Fresh snow reflects sunlight.")
    canvas.save()
    return (tmp_path / "made.pdf").read_bytes()


def test_another_writer_is_waited_for(index: Path, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing_watch, "RETRY", 0.5)
    with followed(index) as log:
        with writer_lock(index):
            (notes / "sea.txt").write_text("Blue sea.")
            assert eventually(lambda: len(log) > 1)
            time.sleep(1.5)
            assert len(log) == 2, "said once"
        assert eventually(lambda: "sea.txt" in documents(index))


def test_a_new_index_is_built_when_there_is_something_to_index(tmp_path: Path) -> None:
    notes, index = tmp_path / "notes", tmp_path / "index"
    notes.mkdir()
    with followed(index, notes) as log:
        assert "no file" in log[0]
        (notes / "snow.txt").write_text("White snow.")
        assert eventually(lambda: documents(index) == {"snow.txt": "White snow."})


def test_an_emptied_folder_leaves_the_index_as_it_is(index: Path, notes: Path) -> None:
    with followed(index) as log:
        shutil.rmtree(notes)
        assert eventually(lambda: len(log) > 1)
        assert len(documents(index)) == 2
        write(notes, {"sea.txt": "Blue sea."})
    with followed(index):  # a folder that was deleted and created again is followed after a restart
        assert eventually(lambda: documents(index) == {"sea.txt": "Blue sea."})


def test_an_index_within_its_folder_does_not_follow_itself(notes: Path) -> None:
    build([notes], notes / "index")
    with followed(notes / "index") as log:
        (notes / "sea.txt").write_text("Blue sea.")
        assert eventually(lambda: "sea.txt" in documents(notes / "index"))
        generations = len([*(notes / "index").glob("gen-*")])
        time.sleep(1.5)
        assert len([*(notes / "index").glob("gen-*")]) == generations
        assert len(log) == 2


def test_mistakes(tmp_path: Path, index: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        watch(index, [tmp_path / "missing"])
    with pytest.raises(IndexFolderError, match="no index"):
        watch(tmp_path / "other")


def test_an_open_rag_finds_a_file_soon_after_it_is_saved(index: Path, notes: Path) -> None:
    rag = RAG(open_index(index, method="bm25"), {}, method="bm25")
    seconds = []
    with watching([index], log=lambda _: None):
        time.sleep(1)
        for name in ("sea", "sand", "ice"):
            began = time.monotonic()
            (notes / f"{name}.txt").write_text(f"The {name} is wide.")
            assert eventually(lambda name=name: bool(rag.retrieve(name, k=9)))
            seconds.append(time.monotonic() - began)
    assert min(seconds) < 5, "0.2 s of quiet and an update"


@pytest.mark.slow
def test_ctrl_c_ends_the_command_cleanly(tmp_path: Path, notes: Path) -> None:
    command = [sys.executable, "-m", "ragx", "watch", notes, "--index", tmp_path / "followed"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stderr is not None
            assert "watching: 2 files" in process.stderr.readline()
            (notes / "sea.txt").write_text("Blue sea.")
            assert str(notes / "sea.txt") in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert process.stderr.read().split()[1:] == ["stopped"]
        finally:
            process.kill()  # if it does not end, leaving the block would wait for it
    assert len(documents(tmp_path / "followed")) == 3
