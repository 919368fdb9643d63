"""MDS shards of pickled token ids become JSON lines, and nothing in them is executed."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.errors import CorpusError
from ragx.evaluation.documents import read_tokens
from ragx.evaluation.paper.mds import convert, pickled_ids
from ragx.util.tokenization import Tokenizer
from tests.evaluation.conftest import write_rows
from tests.helpers.command import RunCommand

COLUMNS = {"domain": "str", "prev_token_ids": "pkl", "score": "float32", "token_ids": "pkl"}


def write_shard(folder: Path, samples: list[dict[str, bytes]], **changes: Any) -> Path:
    """A shard as mosaicml-streaming 0.13 writes it; `score` has a fixed size."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(COLUMNS)
    rows = [
        struct.pack(f"<{len(names) - 1}I", *(len(row[name]) for name in names if name != "score"))
        + b"".join(row[name] for name in names)
        for row in samples
    ]
    settings = b"{}"
    start = 4 + 4 * (len(rows) + 1) + len(settings)
    ends = np.cumsum([start, *map(len, rows)]).astype("<u4")
    data = struct.pack("<I", len(rows)) + ends.tobytes() + settings + b"".join(rows)
    (folder / "shard.00000.mds").write_bytes(data)
    shard = {
        "column_names": names,
        "column_encodings": list(COLUMNS.values()),
        "column_sizes": [None, None, 4, None],
        "compression": None,
        "format": "mds",
        "raw_data": {"basename": "shard.00000.mds", "bytes": len(data), "hashes": {}},
        "samples": len(rows),
        "version": 2,
        **changes,
    }
    (folder / "index.json").write_text(json.dumps({"shards": [shard], "version": 2}))
    return folder


def sample(before: list[int], ids: list[int], domain: str = "book", dtype: str = "uint16") -> dict[str, bytes]:
    previous, own = (pickle.dumps(np.array(each, dtype=dtype)) for each in (before, ids))
    return {"domain": domain.encode(), "prev_token_ids": previous, "score": b"\0" * 4, "token_ids": own}


@given(st.lists(st.integers(0, 250), max_size=400), st.sampled_from(["u1", "u2", ">u2", "i4", "i8"]), st.integers(3, 5))
def test_pickled_arrays_are_read_as_unpickling_would(ids: list[int], dtype: str, protocol: int) -> None:
    assert pickled_ids(pickle.dumps(np.array(ids, dtype=dtype), protocol)) == ids


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps([1, 2]),
        pickle.dumps(np.ones(3)),
        pickle.dumps(np.ones((5, 4), dtype="u2")),
        pickle.dumps(np.array([1, 2], dtype="u2"), 2),
        pickle.dumps(np.array([{}, "u2"])),
        pickle.dumps(np.arange(9))[:-30],
        b"",
    ],
)
def test_other_pickles_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ids|array|pickle|buffer|bytes"):
        pickled_ids(data)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "touched",)

    data = pickle.dumps((Touch(), np.arange(3, dtype="u2")))
    assert pickled_ids(data) == [0, 1, 2]
    assert not (tmp_path / "touched").exists()


def test_samples_become_rows_in_order(run_command: RunCommand, tmp_path: Path) -> None:
    write_shard(tmp_path / "mds" / "arxiv", [sample([1, 2], [3], ""), sample([], [4, 65535], "", "int32")])
    write_shard(tmp_path / "mds" / "book", [sample([7], [8, 9])])
    out = tmp_path / "rows.jsonl"
    run = run_command("eval", "paper", "convert", tmp_path / "mds", "--out", out)
    assert run.code == 0, run.err
    assert "3 sequences" in run.err
    assert list(map(json.loads, out.read_text().splitlines())) == [
        {"ids": [1, 2, 3], "domain": "arxiv"},
        {"ids": [4, 65535], "domain": "arxiv"},
        {"ids": [7, 8, 9], "domain": "book"},
    ]


@pytest.mark.parametrize("kept", [0, 3, 20, 150, 210])
def test_a_damaged_shard_is_one_line_and_leaves_no_file(run_command: RunCommand, tmp_path: Path, kept: int) -> None:
    shard = write_shard(tmp_path / "mds", [sample([1], [2, 3]), sample([1], [2, 3])]) / "shard.00000.mds"
    shard.write_bytes(shard.read_bytes()[:kept])
    run = run_command("eval", "paper", "convert", tmp_path / "mds", "--out", tmp_path / "rows.jsonl")
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1), run.err
    assert str(shard) in run.err
    assert [each.name for each in tmp_path.iterdir()] == ["mds"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compression": "zstd"}, "uncompressed"),
        ({"version": 3}, "version 2"),
        ({"column_encodings": ["str", "ndarray", "float32", "pkl"]}, "not pkl"),
        ({"column_names": ["domain"]}, "damaged"),
        ({"raw_data": {"basename": "../other.mds"}}, "cannot be read"),
        ({"raw_data": None}, "damaged"),
    ],
)
def test_another_form_of_shard_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_shard(tmp_path / "mds", [sample([1], [2, 3])], **change)
    with pytest.raises(CorpusError, match=message):
        convert(tmp_path / "mds", tmp_path / "rows.jsonl")


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no index\.json"):
        convert(tmp_path, tmp_path / "rows.jsonl")


def test_rows_of_ids_are_read_as_they_are(tokenizer: Tokenizer, tmp_path: Path) -> None:
    size = tokenizer.backend.get_vocab_size()
    rows = write_rows(tmp_path / "rows.jsonl", [{"ids": [5, size - 1]}, {"ids": [7]}])
    assert [ids for _, ids in read_tokens(rows, tokenizer)] == [[5, size - 1], [7]]
    for row in ({"ids": [size]}, {"ids": [-1]}, {"ids": "5"}, {"text": "snow"}):
        bad = write_rows(tmp_path / "bad.jsonl", [{"ids": [5]}, row])
        with pytest.raises(CorpusError, match=r"bad\.jsonl:2 has no list of `ids`"):
            list(read_tokens(bad, tokenizer))
