"""Stored rows: rounded as torch and the kernels round, the same bytes on disk as before, and read without torch."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ragx_kernels.cross_attention import dequantize, quantize

from ragx.cepe.encodings import pack_rows
from ragx.cepe.store import PassageStore, Rows
from ragx.types import EncodingFormat

WIDTH = 8
MAX = float(np.finfo(np.float32).max)
HALVES = [1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 2**-126 + 2**-134, 2**-133 / 2, 127.5, 126.5, MAX]
"""Halfway between two bfloat16 numbers, or above the largest."""


@pytest.fixture(params=["bfloat16", "int8"])
def number_format(request: pytest.FixtureRequest) -> EncodingFormat:
    number_format: EncodingFormat = request.param
    return number_format


def vectors_up_to(limit: float) -> st.SearchStrategy[list[list[float]]]:
    floats = st.floats(-limit, limit, width=32)
    return st.lists(st.lists(floats, min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=5)


def array(vectors: list[list[float]]) -> NDArray[np.float32]:
    return np.array(vectors, np.float32)


@settings(deadline=None, max_examples=200)
@given(vectors=vectors_up_to(MAX))
@example(vectors=[HALVES, [0.0] * WIDTH, [1e-45] * WIDTH, [MAX] + [1e-30] * (WIDTH - 1)])
def test_rows_are_rounded_as_torch_and_the_kernels_round(vectors: list[list[float]]) -> None:
    exact = torch.tensor(vectors)
    for rows in (Rows.from_float32(array(vectors), "bfloat16"), pack_rows(exact, "bfloat16")):
        assert rows.scale is None
        assert np.array_equal(rows.values, exact.bfloat16().view(torch.uint16).numpy())
        assert np.array_equal(rows.to_float32(), exact.bfloat16().float().numpy())
    values, scale = quantize(exact)
    for rows in (Rows.from_float32(array(vectors), "int8"), pack_rows(exact, "int8")):
        assert rows.scale is not None
        assert np.array_equal(rows.values, values.numpy())
        assert np.array_equal(rows.scale, scale.numpy())
        assert np.array_equal(rows.to_float32(), dequantize(values, scale, torch.float32).numpy())


@settings(deadline=None, max_examples=100)
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1))
@example(bits=[0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800000, 0xFF800000, 0x80000000])
def test_all_numbers_become_the_bfloat16_that_torch_makes_of_them(bits: list[int]) -> None:
    vectors = np.array([bits], np.uint32).view(np.float32)
    actual = Rows.from_float32(vectors, "bfloat16").to_float32()
    expected = torch.from_numpy(vectors).bfloat16().float().numpy()
    assert np.array_equal(actual, expected, equal_nan=True)
    assert np.array_equal(np.signbit(actual), np.signbit(expected) & ~np.isnan(expected))


@settings(deadline=None, max_examples=100)
@given(vectors=vectors_up_to(2.0**99))
def test_int8_error_is_at_most_half_a_step_of_its_row(vectors: list[list[float]]) -> None:
    exact = array(vectors).astype(np.float64)
    step = np.abs(exact).max(axis=1, keepdims=True) / 127
    error = np.abs(Rows.from_float32(array(vectors), "int8").to_float32() - exact)
    assert (error <= step / 2 * (1 + 1e-5) + 127 * np.finfo(np.float32).tiny).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite_numbers_stay_nonfinite(number_format: EncodingFormat, bad: float) -> None:
    vectors = array([[1.0, bad, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    for rows in (Rows.from_float32(vectors, number_format), pack_rows(torch.from_numpy(vectors), number_format)):
        stored = rows.to_float32()
        assert not np.isfinite(stored[0, 1])
        assert np.isfinite(stored[1]).all()


def test_int8_rows_have_half_the_bytes_plus_a_scale() -> None:
    ones = np.ones((64, 512), np.float32)
    assert len(Rows.from_float32(ones, "bfloat16").tobytes()) == 64 * 512 * 2
    assert len(Rows.from_float32(ones, "int8").tobytes()) == 64 * (512 + 4)


RECORDS = {  # key, CRC-32 and payload
    "bfloat16": (
        "d4b92ec21820213d9d63e80cc5fef28369045e717ea3beac298a5a61291e569e",
        2512436126,
        "803f20c04940833a00000000008000004a71e0c080479a3e",
    ),
    "int8": (
        "5cb6c8d05f52a2ac451164e5e77fa799b11021fe0a57bdf1907fa546b3819507",
        974480412,
        "1aa5ca3c00000000de89cb6d289b7f00000000007f000000",
    ),
}
"""The encodings of one passage, as the first version of the store wrote them."""


def test_the_bytes_on_disk_never_change(tmp_path: Path, number_format: EncodingFormat) -> None:
    vectors = array([[1.0, -2.5, 3.14159, 1e-3], [0.0, 0.0, -0.0, 0.0], [1e30, -7.0, 65504.0, 0.3]])
    rows = Rows.from_float32(vectors, number_format)
    store = PassageStore(tmp_path, "reader", 4, format=number_format, max_bytes=1 << 20)
    store.put([[1, 2, 300]], [rows])
    (stored,) = store.get([[1, 2, 300]])
    store.close()
    with sqlite3.connect(tmp_path / "passages.sqlite") as connection:
        query = "SELECT key, checksum, payload FROM records JOIN payloads USING (id)"
        ((key, checksum, payload),) = connection.execute(query)
    assert (key.hex(), checksum, payload.hex()) == RECORDS[number_format]
    assert stored is not None
    assert np.array_equal(stored.to_float32(), rows.to_float32())


def test_rows_are_read_without_torch(tmp_path: Path, number_format: EncodingFormat) -> None:
    PassageStore(tmp_path, "reader", 4, format=number_format, max_bytes=1 << 20).put(
        [[7]], [Rows.from_float32(array([[1, 2, 3, 4]]), number_format)]
    )
    script = f"""
import sys
from pathlib import Path
from ragx.cepe.store import PassageStore
store = PassageStore(Path({str(tmp_path)!r}), "reader", 4, format={number_format!r}, max_bytes=1 << 20)
print(store.encode([[7], [7]], None).to_float32().shape, {{"torch", "transformers", "ragx_kernels"}} & set(sys.modules))
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (process.stdout, process.stderr) == ("(2, 4) set()\n", "")


def test_a_store_keeps_a_row_for_several_tokens(tmp_path: Path) -> None:
    passages = [[1, 2, 3, 4], [1, 2, 3, 4, 5], [6]]  # 2, 3 and 1 rows
    rows = Rows.from_float32(np.arange(6 * WIDTH, dtype=np.float32).reshape(6, WIDTH), "bfloat16")
    with_ratio = PassageStore(tmp_path, "encoder", WIDTH, max_bytes=10**7, tokens_a_row=2)
    np.testing.assert_array_equal(with_ratio.encode(passages, lambda missing: rows).values, rows.values)
    np.testing.assert_array_equal(with_ratio.encode(passages, lambda missing: 1 / 0).values, rows.values)  # type: ignore[arg-type, return-value]
    assert PassageStore(tmp_path, "encoder", WIDTH, max_bytes=10**7).get(passages) == [None] * 3
    with pytest.raises(ValueError, match=r"rows must be \(2, 8\)"):
        with_ratio.put([[7, 8, 9]], rows.split([6]))
