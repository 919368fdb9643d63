"""JSON lines: every compression, and errors that name file and line."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from ragx.errors import CorpusError
from ragx.util.jsonlines import BadLine, load_objects, read_objects

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: bytes(pyarrow.compress(data, "zstd", asbytes=True)),
}


@pytest.mark.parametrize("suffix", PACK)
def test_every_compression_gives_the_same_objects_and_numbers(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(PACK[suffix](b'\xef\xbb\xbf{"a": "\xc3\xa9"}\r\n\n \n{"b": 2}'))
    assert list(read_objects(path)) == [(1, {"a": "é"}), (4, {"b": 2})]
    assert list(load_objects(path)) == [(f"{path}:1", {"a": "é"}), (f"{path}:4", {"b": 2})]


@pytest.mark.parametrize("suffix", PACK)
def test_several_compressed_parts_in_a_row_are_one_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(2 * PACK[suffix](b'{"a": 1}\n'))
    assert [row for _, row in read_objects(path)] == [{"a": 1}] * 2


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_bad_line_is_reported_and_the_next_is_read(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"b": 2}\n')
    first, (number, bad), last = read_objects(path)
    assert (first, number, last) == ((1, {"a": 1}), 2, (3, {"b": 2}))
    assert isinstance(bad, BadLine)
    with pytest.raises(CorpusError, match=r"a\.jsonl:2 is not") as refused:
        list(load_objects(path))
    assert "\n" not in str(refused.value)


def test_a_line_too_long_for_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": "' + b"x" * 2000 + b'"}\n{"b": 2}\n')
    (_, bad), last = read_objects(path, max_bytes=1000)
    assert isinstance(bad, BadLine)
    assert last == (2, {"b": 2})


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_damaged_or_missing_file_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    for damaged in (PACK[suffix](b'{"a": 1}\n' * 50)[:-5], b"nonsense"):
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match=r"a\.jsonl.* cannot be read"):
            list(load_objects(path))
    with pytest.raises(CorpusError, match="No such file"):
        list(load_objects(tmp_path / "missing"))
