"""Walking a folder: which files, in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ragx.corpus import Skipped
from ragx.corpus.folder import walk


@pytest.fixture
def tree(tmp_path):
    def tree(*names: str) -> Path:
        for name in names:
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return tmp_path / "root"

    return tree


def names_in(root: Path, include=(), exclude=()) -> list[str]:
    names = []
    for entry in walk(root, include, exclude):
        assert not isinstance(entry, Skipped), entry
        path, relative = entry
        assert path == root / relative
        names.append(relative)
    return names


def test_files_come_sorted_by_name_folder_by_folder(tree):
    root = tree("b/z.txt", "b/a.txt", "a.txt", "c.txt", "b.txt", "b/d/e.txt")
    assert names_in(root) == ["a.txt", "b/a.txt", "b/d/e.txt", "b/z.txt", "b.txt", "c.txt"]


def test_hidden_files_and_folders_are_left_out_but_the_root_may_be_hidden(tree):
    root = tree(".hidden.txt", ".git/config.txt", "a/.b/c.txt", "seen.txt")
    assert names_in(root) == ["seen.txt"]
    assert names_in(root / ".git") == ["config.txt"]


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (["*.md"], [], ["a.md", "docs/b.md", "docs/x/c.md"]),
        (["**/*.md"], [], ["a.md", "docs/b.md", "docs/x/c.md"]),
        (["docs/**/*.md"], [], ["docs/b.md", "docs/x/c.md"]),
        (["docs/*"], ["*.txt"], ["docs/b.md", "docs/x/c.md"]),
        ([], ["docs"], ["a.md", "a.txt"]),
        ([], ["docs/x/"], ["a.md", "a.txt", "docs/b.md"]),
        ([], ["*/x"], ["a.md", "a.txt", "docs/b.md"]),
        (["A.md"], [], []),
    ],
)
def test_include_and_exclude_are_globs_on_the_relative_path(tree, include, exclude, names):
    root = tree("a.md", "a.txt", "docs/b.md", "docs/x/c.md", "docs/x/c.txt")
    assert names_in(root, include, exclude) == names


def test_links_are_followed_once_and_loops_end(tree, tmp_path):
    root = tree("a/b.txt", "c.txt")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a" / "self")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.txt").write_text("o")
    (outside / "back").symlink_to(root)
    (outside / "again").symlink_to(outside)
    (root / "z1").symlink_to(outside)
    (root / "z2").symlink_to(outside)
    (root / "link.txt").symlink_to(root / "c.txt")
    entries = list(walk(root, (), ()))
    assert [entry[1] for entry in entries if not isinstance(entry, Skipped)] == [
        "a/b.txt",
        "c.txt",
        "link.txt",
        "z1/o.txt",
    ]
    assert [entry.source for entry in entries if isinstance(entry, Skipped)] == [str(root / "a" / "self")]


def test_a_link_to_nothing_a_pipe_and_a_device_are_reported_and_never_opened(tree):
    root = tree("a.txt")
    os.mkfifo(root / "pipe.txt")  # opening it would wait forever
    (root / "zero.txt").symlink_to("/dev/zero")
    (root / "broken.txt").symlink_to(root / "gone")
    reasons = {Path(e.source).name: e.reason for e in walk(root, (), ()) if isinstance(e, Skipped)}
    assert reasons == {
        "pipe.txt": "is not a regular file",
        "zero.txt": "is not a regular file",
        "broken.txt": "cannot be read: No such file or directory",
    }
