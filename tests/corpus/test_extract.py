"""HTML, PDF and Word files are parsed in a child process, and a bad file costs that file."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ragx.corpus import Document, Skipped
from ragx.corpus.extract import worker
from ragx.corpus.extract.parser import Parser

SENTENCE = "Fresh snow reflects most of the sunlight that falls on it. "
SLOW_HTML = f"<html><body><p>{'<span>a </span>' * 200_000}"


@pytest.fixture(scope="module")
def parser():
    parser = Parser()
    yield parser
    parser.close()


def only(entries: list[Document | Skipped]) -> Document:
    (document,) = entries
    assert isinstance(document, Document), document
    return document


def reason(entries: list[Document | Skipped]) -> str:
    (entry,) = entries
    assert isinstance(entry, Skipped), entry
    assert "\n" not in entry.reason
    return entry.reason


@pytest.mark.parametrize("format", ["pdf", "docx"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_a_cut_file_is_read_or_skipped(tmp_path, parser, write_pdf, write_docx, format, keep):
    path = tmp_path / f"a.{format}"
    {"pdf": write_pdf, "docx": write_docx}[format](path, SENTENCE)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    entries = parser.read_file(path, "a", format)
    assert isinstance(entries[0], Skipped) or SENTENCE.strip() in entries[0].text
    if format == "docx":
        assert reason(entries) == "is not a Word document (.docx), or it is damaged"


def test_a_file_that_is_too_large_is_skipped(tmp_path, parser):
    with (tmp_path / "a.pdf").open("wb") as file:
        file.truncate(worker.MAX_FILE_BYTES + 1)  # a hole, which takes no space
    assert "is larger than 256 MB" in reason(parser.read_file(tmp_path / "a.pdf", "a", "pdf"))


@pytest.mark.slow
def test_too_much_text_is_skipped(parser):
    page = parser.read_wiki_page(Path("wiki.xml"), "Snow", "a" * (worker.MAX_TEXT_CHARS + 1), [])
    assert "50 million characters of text" in reason([page])


def test_a_missing_file_is_skipped(tmp_path, parser):
    assert "No such file" in reason(parser.read_file(tmp_path / "gone.pdf", "a", "pdf"))


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.html"
    path.write_text("<p>Snow.</p>")
    return path


def test_a_parser_that_takes_too_long_costs_one_file(tmp_path, small):
    slow = tmp_path / "slow.html"
    slow.write_text(SLOW_HTML)
    parser = Parser()
    assert only(parser.read_file(small, "a", "html")).text == "Snow."
    parser.max_seconds = 0.2
    assert reason(parser.read_file(slow, "b", "html")) == "took more than 0.2 seconds to parse"
    parser.max_seconds = 60
    assert only(parser.read_file(small, "c", "html")).text == "Snow."
    parser.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_parser_that_wants_too_much_memory_costs_one_file(tmp_path, small):
    big = tmp_path / "big.html"
    big.write_text(f"<p>{'snow ' * (40 << 20)}")
    parser = Parser(max_memory_bytes=400 << 20)
    assert only(parser.read_file(small, "a", "html")).text == "Snow."
    assert "needs over 400 MB of memory" in reason(parser.read_file(big, "b", "html"))
    assert only(parser.read_file(small, "c", "html")).text == "Snow."
    parser.close()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if worker.__file__ in child.cmdline()]


def test_one_process_serves_many_files_is_replaced_when_it_dies_and_ends_with_close(small):
    before = {child.pid for child in children()}
    parser = Parser()
    assert {only(parser.read_file(small, "a", "html")).text for _ in range(5)} == {"Snow."}
    (child,) = [child for child in children() if child.pid not in before]
    child.kill()
    child.wait()
    assert only(parser.read_file(small, "a", "html")).text == "Snow."
    parser.close()
    assert {child.pid for child in children()} == before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals")
def test_the_child_stops_itself_when_its_parent_is_gone(tmp_path):
    slow = tmp_path / "slow.html"
    slow.write_text(SLOW_HTML)
    request = f'{{"format": "html", "path": "{slow}"}}'.encode()
    done = subprocess.run(
        [sys.executable, "-P", worker.__file__, str(1 << 30), "0"],
        input=len(request).to_bytes(4, "big") + request,
        check=False,
        timeout=20,
    )
    assert done.returncode == -signal.SIGALRM


def test_no_file_of_the_working_folder_is_imported(tmp_path, small, monkeypatch):
    for module in ("lxml", "pypdf", "json"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    parser = Parser()
    assert only(parser.read_file(small, "a", "html")).text == "Snow."
    parser.close()
    assert not (tmp_path / "ran").exists()
