"""One writer at a time, and errors that name the path that cannot be written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import pytest

from ragx.errors import IndexFolderError
from ragx.index import Index, read_manifest, remove, repair_index, verify
from ragx.util.files import writer_lock
from tests.helpers import ROOT
from tests.helpers.small_indexes import SNOW, SOIL, build, texts_of
from tests.helpers.toy_embedders import WordEmbedder


def test_a_second_writer_is_refused_with_the_pid_of_the_first(folder: Path) -> None:
    with writer_lock(folder):
        for write in (lambda: build(folder, SOIL), lambda: remove(folder)):
            with pytest.raises(IndexFolderError, match=rf"another process \(pid {os.getpid()} on"):
                write()
        assert texts_of(Index.open(folder)) == SNOW
    build(folder, SOIL)


def test_the_lock_works_across_processes_and_ends_with_its_holder(folder: Path) -> None:
    script = (
        "import sys, pathlib; from ragx.util.files import writer_lock\n"
        "with writer_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(IndexFolderError, match=f"pid {holder.pid} on"):
            build(folder, SOIL)
        holder.kill()
    build(folder, SOIL)


# each file is larger than those written before it
LARGE = [" ".join(f"w{row}x{column}" for column in range(100)) for row in range(40)]
SCRIPT = """
import json, pathlib, resource, sys
from tests.index.test_writing import build_large
from ragx.errors import IndexFolderError
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    build_large(pathlib.Path(sys.argv[2]))
except IndexFolderError as error:
    print(error)
"""


def build_large(folder: Path) -> WordEmbedder:
    return build(folder, LARGE, WordEmbedder(dimension=512), faiss="HNSW32", shard_size=100)


@pytest.mark.parametrize("name", ["shard-00000/passages.arrow", "shard-00000/vectors.npy", "shard-00000/faiss.index"])
def test_a_full_disk_publishes_nothing_and_names_the_file(folder: Path, tmp_path: Path, name: str) -> None:
    """A limit on file sizes acts like a full disk: all writes fail in the same way."""
    build_large(tmp_path / "complete")
    limit = read_manifest(tmp_path / "complete").files[name].size - 1
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT, "", str(folder), str(limit)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    path = folder / "gen-building" / name
    assert re.fullmatch(rf"cannot write {path}: (File too large|.* \(is the disk full\?\))\n", child.stdout), child
    assert (folder / "CURRENT").read_text() == "gen-0001\n"
    assert texts_of(Index.open(folder)) == SNOW
    verify(folder)
    build_large(folder)
    assert texts_of(Index.open(folder)) == LARGE


REPAIR = """
import pathlib, resource, sys
from ragx.errors import IndexFolderError
from ragx.index import repair_index
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    repair_index(pathlib.Path(sys.argv[1]), quiet=True)
except IndexFolderError as error:
    print(error)
"""


def test_a_full_disk_for_the_lexical_index_publishes_nothing(folder: Path) -> None:
    build_large(folder)
    (folder / "gen-0002" / "lexical" / "00000" / "meta.json").unlink()
    child = subprocess.run(
        [sys.executable, "-c", REPAIR, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(rf"cannot write {folder}/gen-building/lexical/00000: .*File too large.*\n", child.stdout), child
    assert (folder / "CURRENT").read_text() == "gen-0002\n"
    repair_index(folder, quiet=True)
    assert texts_of(Index.open(folder)) == LARGE


def test_a_read_only_folder_can_be_read_but_not_written() -> None:
    base = Path(mkdtemp())  # tmp_path is accessible to its owner only
    folder = base / "index"
    build(folder, SNOW)
    base.chmod(0o555)
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:  # root may write anywhere
            os.seteuid(65534)
        with pytest.raises(IndexFolderError, match=f"cannot write {folder}/LOCK"):
            build(folder, SOIL)
        assert texts_of(Index.open(folder)) == SNOW
        with pytest.raises(IndexFolderError, match=f"cannot write {folder}/new"):
            build(folder / "new", SOIL)
    finally:
        os.seteuid(user)
        base.chmod(0o755)
        folder.chmod(0o755)
        shutil.rmtree(base)


def test_a_folder_with_other_files_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("MANIFEST-000004\n")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match="neither empty nor an index"):
        build(tmp_path, SNOW)
    with pytest.raises(IndexFolderError, match="no index at"):
        remove(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"CURRENT", "notes.txt"}


def test_a_file_instead_of_the_output_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "index"):
        with pytest.raises(IndexFolderError, match=f"cannot write {tmp_path}/file"):
            build(out, SNOW)
