"""`ragx index encode`: passages that the reader need not encode when it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx.util.folders import cache_home
from tests.helpers.command import QUESTION


@pytest.fixture
def trained_reader(tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader whose cross-attention adds something, and a home of its own for its encodings."""
    import torch

    from ragx.cepe.added_weights import save_reader
    from ragx.cepe.fresh import fresh
    from ragx.cepe.placement import Placement

    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").symlink_to(cache_home() / "models")
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    reader = fresh(tiny_decoder, Placement(torch.float32, "cpu"), output_gain=0.5)
    save_reader(reader, tmp_path / "reader", decoder=str(tiny_decoder))
    return tmp_path / "reader"


def test_passages_encoded_ahead_are_not_encoded_again(ragx, index: Path, trained_reader: Path) -> None:
    options = ("--index", index, "--model", trained_reader)
    first = ragx("index", "encode", *options)
    assert first.code == 0
    assert "4 passages encoded, 0 already on disk" in first.err
    assert "0 passages encoded, 4 already on disk" in ragx("index", "encode", *options).err
    assert "4 passages encoded" in ragx("index", "encode", *options, "--encodings", "int8").err
    answer = ragx("ask", QUESTION, *options, "--max-new-tokens", "3", "--attention-shares")
    assert answer.code == 0
    assert "untrained" not in answer.err
    assert "Attention:" in answer.out


def test_build_encodes_what_it_has_indexed(ragx, notes: Path, trained_reader: Path, tmp_path: Path) -> None:
    done = ragx("index", "build", notes, "--index", tmp_path / "index", "--encode", "--model", trained_reader)
    assert done.code == 0
    assert "4 passages encoded, 0 already on disk" in done.err


def test_encodings_that_do_not_fit_are_told_of(ragx, index: Path, trained_reader: Path) -> None:
    done = ragx("index", "encode", "--index", index, "--model", trained_reader, "--cache-size", "0.00003")
    assert done.code == 0
    assert "not all encodings fit on disk" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "DECODER"), "is an untrained reader"),
        (("--encodings", "int3"), "encodings: 'int3' is not one of 'bfloat16', 'int8'"),
        (("--bits", "5"), "bits: '5' is not one of"),
        (("--index", "/nowhere"), "no index at /nowhere"),
    ],
)
def test_what_cannot_be_encoded_is_one_line(ragx, index: Path, trained_reader, tiny_decoder, options, message) -> None:
    options = tuple(str(tiny_decoder) if option == "DECODER" else option for option in options)
    done = ragx("index", "encode", "--index", index, "--model", trained_reader, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]
