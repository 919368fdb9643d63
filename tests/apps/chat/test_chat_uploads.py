"""A visitor's files: failed and simultaneous uploads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ragx_apps.chat.uploads import Visitor

from ragx.config import IndexSettings
from ragx.errors import ConfigError, CorpusError
from ragx.index import Index
from ragx.indexing.report import BuildReport
from ragx.indexing.update import UpdateReport

LEASE = "The lease was signed in May."


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    return Visitor(tmp_path / "visitor")


@pytest.fixture
def uploaded(tmp_path: Path) -> Callable[..., list[Path]]:
    """Files as Gradio passes them: each in its own folder."""

    def write(*files: tuple[str, str]) -> list[Path]:
        paths = [tmp_path / str(len([*tmp_path.iterdir()]) + place) / name for place, (name, _) in enumerate(files)]
        for path, (_, text) in zip(paths, files, strict=True):
            path.parent.mkdir()
            path.write_text(text, encoding="utf-8")
        return paths

    return write


def nothing(done: int, total: int) -> None:
    pass


def add(visitor: Visitor, files: list[Path], on_progress: Callable[[int, int], object] = nothing) -> BuildReport:
    return visitor.add(files, IndexSettings().embedder, on_progress)


def files_of(visitor: Visitor) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in visitor.files.iterdir()}


def indexed_texts(visitor: Visitor) -> list[str]:
    index = Index.open(visitor.index)
    return sorted(index.passage(row).text for row in range(len(index)))


def test_a_file_of_the_same_name_takes_the_place_of_the_one_before(
    visitor: Visitor, uploaded: Callable[..., list[Path]]
) -> None:
    add(visitor, uploaded(("lease.txt", LEASE), ("soil.txt", "Soil is dark.")))
    add(visitor, uploaded(("lease.txt", "The lease ended.")))
    assert files_of(visitor) == {"lease.txt": "The lease ended.", "soil.txt": "Soil is dark."}
    assert indexed_texts(visitor) == ["Soil is dark.", "The lease ended."]


def test_an_upload_embeds_only_its_own_files(visitor: Visitor, uploaded: Callable[..., list[Path]]) -> None:
    add(visitor, uploaded(("lease.txt", LEASE)))
    report = add(visitor, uploaded(("soil.txt", "Soil is dark.")))
    assert isinstance(report, UpdateReport)
    assert (report.added, report.unchanged, report.counts.passages) == (1, 1, 2)


def test_an_upload_without_text_changes_nothing(visitor: Visitor, uploaded: Callable[..., list[Path]]) -> None:
    add(visitor, uploaded(("lease.txt", LEASE)))
    with pytest.raises(CorpusError, match="nothing"):
        add(visitor, uploaded(("lease.txt", " "), ("lease.txt", "\n"), ("more.txt", " ")))
    assert files_of(visitor) == {"lease.txt": LEASE}
    assert indexed_texts(visitor) == [LEASE]


def test_a_failed_upload_changes_nothing(visitor: Visitor, uploaded: Callable[..., list[Path]]) -> None:
    add(visitor, uploaded(("lease.txt", LEASE)))
    first, lease = uploaded(("first.txt", "One."), ("lease.txt", "Two."))
    with pytest.raises(FileNotFoundError):
        add(visitor, [first, lease, first])  # which has been moved by then
    assert files_of(visitor) == {"lease.txt": LEASE}


def test_a_second_upload_waits_for_the_first(visitor: Visitor, uploaded: Callable[..., list[Path]]) -> None:
    first, second = uploaded(("lease.txt", LEASE)), uploaded(("soil.txt", "Soil is dark."))
    begun, go_on = threading.Event(), threading.Event()

    def hold(*_: int) -> None:
        begun.set()
        go_on.wait(30)

    with ThreadPoolExecutor(2) as threads:
        adding = [threads.submit(add, visitor, first, hold)]
        assert begun.wait(30)
        adding.append(threads.submit(add, visitor, second))
        with pytest.raises(TimeoutError):
            adding[1].result(0.5)
        go_on.set()
        for each in adding:
            each.result(30)
    assert visitor.names == ["lease.txt", "soil.txt"]
    assert indexed_texts(visitor) == ["Soil is dark.", LEASE]


def test_nothing_is_kept_of_an_upload_whose_page_is_closed(
    visitor: Visitor, uploaded: Callable[..., list[Path]]
) -> None:
    first, second = uploaded(("lease.txt", LEASE)), uploaded(("soil.txt", "Soil is dark."))
    with ThreadPoolExecutor(2) as threads:
        waiting = []

        def leave(*_: int) -> None:
            if not waiting:
                waiting.append(threads.submit(add, visitor, second))
                visitor.close()

        adding = threads.submit(add, visitor, first, leave)
        adding.exception(30)
        with pytest.raises(ConfigError, match="the page was closed"):
            waiting[0].result(30)
    assert not visitor.files.parent.exists()
