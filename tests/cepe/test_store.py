"""A passage is encoded once, and read back unchanged for every question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ragx_kernels.cross_attention import dequantize

from ragx.cepe.context import Context
from ragx.cepe.fresh import fresh
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.cepe.store import FillResult, PassageStore, Rows, each_batch
from ragx.cepe.store.passages import ENCODE_TOKENS
from ragx.cepe.store.rows import concatenate
from ragx.types import EncodingFormat
from tests.helpers import store_data
from tests.helpers.store_data import WIDTH, is_stored, open_store, put, repeated, rows_of
from tests.helpers.tiny import SIZES, save_decoder

E = SIZES["hidden_size"]
PASSAGES = [[5, 6, 7], [9], [], [8, 9, 10, 11, 12], [5, 6, 8]]
Tokens = list[list[int]]


class Encoder:
    """A reader and the number of tokens its encoder has processed."""

    def __init__(self, model: CepeModel) -> None:
        self.model = model
        self.tokens = 0
        model.encoder.register_forward_pre_hook(self._count)

    def _count(self, _: object, inputs: tuple[torch.Tensor, ...]) -> None:
        self.tokens += inputs[0].shape[1]


@pytest.fixture(scope="module")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    save_decoder(folder)
    return folder


def load(folder: Path, dtype: torch.dtype) -> CepeModel:
    """A reader whose cross-attention has an effect."""
    model = fresh(folder, Placement(dtype, "cpu"), encoder_layers=(0, 1)).to(dtype)
    model.attention_strategy = "cached"
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.cross_attn.o_proj.weight.normal_(std=0.3)
    return model


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def encoder(reader_folder: Path, request: pytest.FixtureRequest) -> Encoder:
    return Encoder(load(reader_folder, request.param))


@pytest.fixture(scope="module")
def bf16_model(reader_folder: Path) -> CepeModel:
    return load(reader_folder, torch.bfloat16)


@pytest.fixture(params=["bfloat16", "int8"])
def number_format(request: pytest.FixtureRequest) -> EncodingFormat:
    number_format: EncodingFormat = request.param
    return number_format


def values(context: Context) -> torch.Tensor:
    """Φ of one question, (M, E) in float32."""
    phi = context.phi if context.phi_scale is None else dequantize(context.phi, context.phi_scale, torch.float32)
    return phi[0].float()


def reader_store(folder: Path, number_format: EncodingFormat = "bfloat16", max_bytes: int = 1 << 30) -> PassageStore:
    return PassageStore(folder, "reader", E, format=number_format, max_bytes=max_bytes)


def fill(store: PassageStore, encoder: Encoder, passages: Iterable[list[int]], *args: Any, **kwargs: Any) -> FillResult:
    return store.fill(
        passages, each_batch(lambda batch: encoder.model.encode_rows(batch, store.format)), *args, **kwargs
    )


def rows_of_all(batch: Sequence[Sequence[int]]) -> Rows:
    return concatenate([rows_of([*tokens]) for tokens in batch], WIDTH, "bfloat16")


# encoding


def test_a_bfloat16_encoding_is_the_encoders_output(tmp_path: Path, bf16_model: CepeModel) -> None:
    with torch.no_grad():
        expected = bf16_model.encode_passages(PASSAGES).phi
    torch.testing.assert_close(bf16_model.encode_passages(PASSAGES, reader_store(tmp_path)).phi, expected)


def test_a_second_question_encodes_nothing(tmp_path: Path, encoder: Encoder, number_format: EncodingFormat) -> None:
    cold = encoder.model.encode_passages(PASSAGES, reader_store(tmp_path, number_format))
    assert encoder.tokens == 12
    store = reader_store(tmp_path, number_format)
    warm = encoder.model.encode_passages(PASSAGES, store)
    assert encoder.tokens == 12
    assert torch.equal(warm.phi, cold.phi)
    assert warm.phi.dtype == (torch.int8 if number_format == "int8" else encoder.model.dtype)
    assert (warm.phi_scale is None) == (number_format == "bfloat16")
    if warm.phi_scale is not None and cold.phi_scale is not None:
        assert torch.equal(warm.phi_scale, cold.phi_scale)
    assert (store.stats.hits, store.stats.misses, store.stats.dropped) == (5, 0, 0)


@settings(deadline=None, max_examples=30)
@given(chosen=st.lists(st.sampled_from(PASSAGES), max_size=8), number_format=st.sampled_from(["bfloat16", "int8"]))
def test_rows_do_not_depend_on_order_or_subset(
    bf16_model: CepeModel, chosen: Tokens, number_format: EncodingFormat
) -> None:
    with TemporaryDirectory() as folder:
        store = reader_store(Path(folder), number_format)
        lengths = [len(tokens) for tokens in PASSAGES]
        each = dict(
            zip(map(tuple, PASSAGES), values(bf16_model.encode_passages(PASSAGES, store)).split(lengths), strict=True)
        )
        expected = torch.cat([torch.empty(0, E), *(each[tuple(tokens)] for tokens in chosen)])
        context = bf16_model.encode_passages(chosen, store)
        store.close()
    assert torch.equal(values(context), expected)
    assert context.mask is None


def test_a_stored_context_gives_the_logits_of_a_new_one(
    tmp_path: Path, encoder: Encoder, number_format: EncodingFormat
) -> None:
    store, model, question = reader_store(tmp_path, number_format), encoder.model, torch.tensor([[3, 4, 5, 6]])
    model.encode_passages(PASSAGES, store)
    with torch.no_grad():
        new, stored = model.encode_passages(PASSAGES), model.encode_passages(PASSAGES, store)
        expected, logits = model(question, context=new).logits, model(question, context=stored).logits
        without = model(question).logits
    assert stored.strategy == new.strategy
    assert [list(row) for row in stored.offsets] == [list(row) for row in new.offsets]
    if number_format == "bfloat16" and model.dtype == torch.bfloat16:
        torch.testing.assert_close(logits, expected)
    else:
        assert (logits - expected).abs().max() < 0.1 * (without - expected).abs().max()


def test_only_missing_passages_are_encoded(tmp_path: Path, encoder: Encoder) -> None:
    store = reader_store(tmp_path)
    encoder.model.encode_passages([[5, 6, 7], [9]], store)
    encoder.model.encode_passages([[9], [4, 4], [5, 6, 7]], store)
    assert encoder.tokens == 4 + 2
    assert (store.stats.hits, store.stats.misses) == (2, 3)


def test_a_repeated_passage_is_encoded_once(tmp_path: Path, encoder: Encoder) -> None:
    context = encoder.model.encode_passages([[5, 6], [7], [5, 6]], reader_store(tmp_path))
    assert encoder.tokens == 3
    assert torch.equal(context.phi[:, :2], context.phi[:, 3:])


def test_without_passages_the_context_is_empty(tmp_path: Path, encoder: Encoder, number_format: EncodingFormat) -> None:
    store = reader_store(tmp_path, number_format)
    assert encoder.model.encode_passages([], store).phi.shape == (1, 0, E)
    assert encoder.model.encode_passages([[]], store).phi.shape == (1, 0, E)
    assert encoder.model.encode_passages([[], []], store).phi.shape == (1, 0, E)
    assert store.stats.hits == 2


def test_a_cache_of_0_bytes_writes_nothing(
    tmp_path: Path, encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    store = reader_store(tmp_path / "none", max_bytes=0)
    encoder.model.encode_passages(PASSAGES, store)
    assert not (tmp_path / "none").exists()
    assert capsys.readouterr().err == ""


def test_missing_passages_are_encoded_and_stored_in_batches(tmp_path: Path) -> None:
    store, passages = open_store(tmp_path), [repeated(token, 1000) for token in range(20)]
    put(store, passages[:1])
    seen: list[tuple[int, int]] = []
    sizes: list[int] = []

    def encode(batch: Sequence[Sequence[int]]) -> Rows:
        sizes.append(sum(map(len, batch)))
        return rows_of_all(batch)

    rows = store.encode([*passages, passages[3]], encode, lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(rows.values, rows_of_all([*passages, passages[3]]).values)
    assert seen == [(8, 19), (16, 19), (19, 19)]
    assert max(sizes) <= ENCODE_TOKENS


def test_an_interrupted_encoding_keeps_the_batches_before(tmp_path: Path) -> None:
    store, passages = open_store(tmp_path), [repeated(token, 1000) for token in range(20)]

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.encode(passages, rows_of_all, interrupt)
    assert is_stored(store, passages) == [True] * 8 + [False] * 12


def test_rows_of_another_shape_or_format_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for shape, number_format in (((2, WIDTH), "bfloat16"), ((3, WIDTH + 1), "bfloat16"), ((3, WIDTH), "int8")):
        with pytest.raises(ValueError, match="rows must be"):
            store.put([[1, 2, 3]], [Rows.from_float32(np.ones(shape, np.float32), number_format)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 2 rows, got 3"):
        store.encode([[1, 2]], lambda _: rows_of([1, 2, 3]))
    assert is_stored(store, [[1, 2, 3], [1, 2]]) == [False, False]


def test_rows_read_from_the_store_are_read_only(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, [[1, 2, 3]])
    (rows,) = store.get([[1, 2, 3]])
    assert rows is not None
    with pytest.raises(ValueError, match="read-only"):
        rows.values[0, 0] = 0


# keys


@settings(deadline=None, max_examples=50)
@given(
    stored=st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=8),
    requested=st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=8),
)
def test_the_key_of_a_passage_is_all_its_tokens(stored: Tokens, requested: Tokens) -> None:
    with TemporaryDirectory() as folder:
        store = open_store(Path(folder))
        put(store, stored)
        assert is_stored(store, requested) == [tokens in stored for tokens in requested]
        store.close()


def test_a_store_finds_only_its_own_fingerprint_width_and_format(tmp_path: Path) -> None:
    put(open_store(tmp_path, fingerprint="a"), [[1, 2]])
    others = [
        PassageStore(tmp_path, "b", WIDTH, max_bytes=1 << 30),
        PassageStore(tmp_path, "a", WIDTH * 2, max_bytes=1 << 30),
        PassageStore(tmp_path, "a", WIDTH, format="int8", max_bytes=1 << 30),
    ]
    for other in others:
        assert other.get([[1, 2]]) == [None]
    assert is_stored(open_store(tmp_path, fingerprint="a"), [[1, 2]]) == [True]


# filling


def test_after_filling_nothing_is_encoded(tmp_path: Path, encoder: Encoder, number_format: EncodingFormat) -> None:
    store = reader_store(tmp_path, number_format)
    progress: list[int] = []
    result = fill(store, encoder, iter(PASSAGES), progress.append)
    assert result == FillResult(encoded=5, present=0, complete=True)
    assert sum(progress) == 5
    tokens = encoder.tokens
    encoder.model.encode_passages(PASSAGES, reader_store(tmp_path, number_format))
    assert encoder.tokens == tokens == 12


def test_filling_again_encodes_only_new_passages(tmp_path: Path, encoder: Encoder) -> None:
    fill(reader_store(tmp_path), encoder, PASSAGES[:3])
    encoder.tokens = 0
    result = fill(reader_store(tmp_path), encoder, [*PASSAGES, [5, 6, 8]])
    assert result == FillResult(encoded=2, present=4, complete=True)
    assert encoder.tokens == 8


def test_filling_encodes_in_batches(tmp_path: Path, encoder: Encoder) -> None:
    progress: list[int] = []
    passages = [[n] * 4 for n in range(5)] + [[6] * 15, [7], []]
    assert fill(reader_store(tmp_path), encoder, passages, progress.append, batch_tokens=10).encoded == 8
    assert progress == [2, 2, 1, 1, 2]


def test_filling_stops_before_it_evicts_its_own_passages(tmp_path: Path, encoder: Encoder) -> None:
    store = reader_store(tmp_path, max_bytes=1_000_000)
    passages = [[n % 200, n // 200 + 3, *[5] * 8] for n in range(1000)]
    result = fill(store, encoder, passages, batch_tokens=20)
    assert not result.complete
    assert 500 < result.encoded < 900
    assert None not in store.get(passages[: result.encoded])
    again = fill(store, encoder, passages, batch_tokens=20)
    assert again == FillResult(encoded=0, present=result.encoded, complete=False)


# eviction


def test_the_least_recently_used_passages_are_evicted(tmp_path: Path) -> None:
    store = open_store(tmp_path, max_bytes=1_600_000)
    passages = [repeated(n, 20) for n in range(2000)]  # 2.6 kB each: about three times the limit
    favourites = passages[:40]
    put(store, favourites)
    for start in range(40, 2000, 40):
        put(store, passages[start : start + 40])
        assert all(is_stored(store, favourites))
        assert store_data.size(tmp_path) <= 1_600_000
    stored = is_stored(store, passages)
    first = stored.index(True, 40)
    assert stored == [True] * 40 + [False] * (first - 40) + [True] * (2000 - first)
    assert 1500 < first < 1800


@settings(deadline=None, max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "get", "reopen"]), st.lists(st.integers(0, 500), max_size=30)), max_size=40
    ),
    max_bytes=st.integers(500_000, 1_000_000),
)
def test_eviction_follows_the_order_of_use_and_keeps_the_size_limit(
    steps: list[tuple[str, list[int]]], max_bytes: int
) -> None:
    """The oracle is a list of passages in the order of their last use, whose head may have been evicted."""

    def passages(numbers: list[int]) -> Tokens:
        return [repeated(n, 1 + n % 60) for n in numbers]

    order: list[int] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(folder, max_bytes)
        for action, numbers in steps:
            chosen = list(dict.fromkeys(numbers))
            if action == "reopen":
                store.close()
                store = open_store(folder, max_bytes)
            elif action == "put":
                new = [n for n in chosen if n not in order]
                put(store, passages(new))
                order += new
            else:
                used = [n for n, hit in zip(chosen, is_stored(store, passages(chosen)), strict=True) if hit]
                assert set(used) == set(chosen) & set(order)
                order = [n for n in order if n not in used] + used
            assert store_data.size(folder) <= max_bytes
            stored = is_stored(store, passages(order))  # reading all in this order preserves the order
            kept = stored.count(True)
            assert stored == [False] * (len(order) - kept) + [True] * kept
            if kept < len(order):
                assert sum(256 + len(tokens) * WIDTH * 2 for tokens in passages(order[-kept - 1 :])) > max_bytes / 2
            order = order[len(order) - kept :]
        store.close()


def test_opening_with_a_smaller_limit_evicts_at_once(tmp_path: Path) -> None:
    put(open_store(tmp_path), [repeated(n, 20) for n in range(1000)])
    store = open_store(tmp_path, max_bytes=1_500_000)
    assert store_data.size(tmp_path) <= 1_500_000
    stored = is_stored(store, [repeated(n, 20) for n in range(1000)])
    first = stored.index(True)
    assert stored == [False] * first + [True] * (1000 - first)
    assert 500 < first < 800


def test_passages_too_large_for_the_cache_give_one_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path, max_bytes=1_000_000)
    put(store, [[1] * 5000, [2] * 5000, [3]])
    assert is_stored(store, [[1] * 5000, [2] * 5000, [3]]) == [False, False, True]
    assert capsys.readouterr().err.count("too small") == 1


def test_rows_stay_valid_after_another_store_evicts_them(tmp_path: Path) -> None:
    one, other = open_store(tmp_path, 1_000_000), open_store(tmp_path, 1_000_000)
    put(one, [[1, 2, 3]])
    (rows,) = one.get([[1, 2, 3]])
    put(other, [repeated(n, 20) for n in range(10, 600)])
    assert one.get([[1, 2, 3]]) == [None]
    assert rows is not None
    assert np.array_equal(rows.values, rows_of([1, 2, 3]).values)
    put(one, [[1, 2, 3]])
    assert is_stored(other, [[1, 2, 3]]) == [True]
    assert one.stats.dropped == other.stats.dropped == 0
