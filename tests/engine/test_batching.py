"""Answers decoded together: nobody's answer depends on who else asks, or when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ragx import cepe
from ragx.config import SamplingParams
from ragx.engine import batching
from ragx.engine.batching import BatchDecoder
from ragx.engine.sampling import Sampler
from ragx.errors import ModelError
from ragx.reader.cepe import CepeReader
from ragx.reader.full import FullReader
from ragx.types import Passage
from ragx.util.tokenization import load_tokenizer


@pytest.fixture(scope="module")
def reader(tiny_decoder: Path) -> CepeReader:
    """A reader whose passages matter, on its own; answers of different passages differ."""
    model = cepe.load(str(tiny_decoder), dtype="float32", device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
        for layer in model.model.layers:
            layer.cross_attn.o_proj.weight.normal_()
    return CepeReader(model, load_tokenizer(tiny_decoder))


@pytest.fixture(scope="module")
def together(reader: CepeReader) -> Iterator[CepeReader]:
    """The same, in a batch of at most three."""
    batched = CepeReader(reader.model, reader.tokenizer)
    batched.batch = BatchDecoder(reader.model, reader.tokenizer, size=3)
    yield batched
    batched.batch.close()


def passages(number: int) -> list[Passage]:
    texts = [f"snow {number} reflects {'light ' * (number * place)}" for place in range(1, 1 + number % 4)]
    return [Passage(f"d#{i}", "d", "", text, i, 0, len(text), "d.txt") for i, text in enumerate(texts)]


def ask(reader: CepeReader, number: int, cancel: threading.Event | None = None, **options: object) -> tuple[str, str]:
    """The answer to question `number`, which has its own prompt, passages and length, and why it ended."""
    generation = SamplingParams(**{"max_new_tokens": 5 + number % 20, **options})  # type: ignore[arg-type]
    question = f"Why {number}? " + "light " * (number % 9)
    reading = reader.prepare(question, passages(number), prompt_passages=number % 3, sampling=generation)
    stream = reader.stream(reading, generation, cancel)
    return "".join(stream), stream.finish


@pytest.mark.parametrize("way", ["cached", "latent", "project"])
def test_an_answer_is_the_same_alone_and_in_company(reader: CepeReader, together: CepeReader, way: str) -> None:
    reader.model.attend = way  # type: ignore[assignment]
    alone = [ask(reader, number) for number in range(16)]
    with ThreadPoolExecutor(16) as askers:
        assert list(askers.map(lambda number: ask(together, number), range(16))) == alone
    assert len(set(alone)) > 8


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(
        st.tuples(st.integers(0, 30), st.floats(0, 0.02), st.booleans(), st.sampled_from([1, 7, 256])),
        min_size=1,
        max_size=5,
    )
)
def test_whoever_joins_or_leaves(
    reader: CepeReader,
    together: CepeReader,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[tuple[int, float, bool, int]],
) -> None:
    monkeypatch.setattr(batching, "PROMPT_PIECE", asked[0][3])

    def later(question: tuple[int, float, bool, int]) -> tuple[str, str]:
        number, delay, leaves, _ = question
        cancel = threading.Event()
        if leaves:
            threading.Timer(delay, cancel.set).start()
        time.sleep(delay)
        return ask(together, number, cancel, max_new_tokens=25)

    with ThreadPoolExecutor(len(asked)) as askers:
        answers = list(askers.map(later, asked))
    for (number, _, leaves, _), (text, finish) in zip(asked, answers, strict=True):
        whole, end = ask(reader, number, max_new_tokens=25)
        if leaves and finish == "cancelled":
            assert whole.startswith(text)
        else:
            assert (text, finish) == (whole, end)


def test_sampling_settings_are_each_askers_own(reader: CepeReader, together: CepeReader) -> None:
    options: list[dict[str, object]] = [
        {},
        {"temperature": 1.5, "seed": 1},
        {"temperature": 1.5, "seed": 2},
        {"temperature": 1.1, "seed": 1, "top_k": 5},
        {"temperature": 1.1, "seed": 1, "top_p": 0.7},
        {"temperature": 1.1, "seed": 1, "min_p": 0.1},
        {"temperature": 1.1, "seed": 1, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3},
        {"repetition_penalty": 5.0},
        {"stop": ("}",)},
    ]
    alone = [ask(reader, 19, **each) for each in options]
    with ThreadPoolExecutor(len(options)) as askers:
        assert list(askers.map(lambda each: ask(together, 19, **each), options)) == alone
    assert len(set(alone)) == len(options)


def test_a_reader_without_passages_joins_the_same_batch(reader: CepeReader, together: CepeReader) -> None:
    full = FullReader(reader.model, reader.tokenizer)
    expected = ask(full, 7)  # type: ignore[arg-type]
    full.batch = together.batch
    with ThreadPoolExecutor(2) as askers:
        beside = askers.submit(ask, together, 6)
        assert ask(full, 7) == expected  # type: ignore[arg-type]
        assert beside.result() == ask(reader, 6)


def test_shares_of_the_attention_are_those_of_an_answer_alone(
    reader: CepeReader, together: CepeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "PROMPT_PIECE", 16)
    shares = []
    for each in (reader, together):
        reading = each.prepare("Why?", passages(7), prompt_passages=2, sampling=SamplingParams(max_new_tokens=9))
        assert reading.context is not None
        reading.context.watch = True
        list(each.stream(reading, SamplingParams(max_new_tokens=9)))
        seen = reading.context.shares()
        assert seen is not None
        shares.append(seen)
    torch.testing.assert_close(*shares, rtol=1e-4, atol=1e-5)


def idle(batch: BatchDecoder, within: float) -> bool:
    deadline = time.monotonic() + within
    while batch.running or batch.waiting:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def test_an_answer_that_nobody_reads_any_more_ends(together: CepeReader) -> None:
    assert together.batch is not None
    generation = SamplingParams(max_new_tokens=300, repetition_penalty=3.0)
    streams = []
    for number in range(5):  # more than the batch takes: two of them wait
        reading = together.prepare(f"Why {number}?", [], prompt_passages=0, sampling=generation)
        streams.append(together.stream(reading, generation))
    with ThreadPoolExecutor(5) as askers:
        firsts = [askers.submit(next, stream) for stream in streams]
        for first, stream in list(zip(firsts, streams, strict=True))[:3]:
            first.result()
            stream.close()
        for first, stream in list(zip(firsts, streams, strict=True))[3:]:
            first.result()
            stream.close()
    assert idle(together.batch, within=1)


def test_a_waiting_answer_can_be_cancelled(reader: CepeReader) -> None:
    batch = BatchDecoder(reader.model, reader.tokenizer, size=1)
    alone = CepeReader(reader.model, reader.tokenizer)
    alone.batch = batch
    try:
        cancel = threading.Event()
        with ThreadPoolExecutor(2) as askers:
            long = askers.submit(ask, alone, 1, cancel, max_new_tokens=300, repetition_penalty=3.0)
            waits = askers.submit(ask, alone, 2, cancel, max_new_tokens=300)
            time.sleep(0.05)
            cancel.set()
            assert waits.result(timeout=1)[1] == "cancelled"
            long.result(timeout=1)
        assert idle(batch, within=1)
    finally:
        batch.close()


def test_an_error_is_raised_to_its_asker_alone(reader: CepeReader, together: CepeReader) -> None:
    generation = SamplingParams(max_new_tokens=20)
    broken = together.prepare("Why?", [], prompt_passages=0, sampling=generation)
    broken.prompt.ids.append(10**6)  # no such token
    with ThreadPoolExecutor(2) as askers:
        beside = askers.submit(ask, together, 14)
        with pytest.raises(IndexError):
            list(together.stream(broken, generation))
        assert beside.result() == ask(reader, 14)


def test_a_token_that_cannot_be_chosen_ends_its_own_answer_alone(
    reader: CepeReader, together: CepeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailsLater(Sampler):
        def choose(self, logits: Tensor, before: Sequence[Sequence[int]]) -> int:
            if self.penalises and len(before[1]) == 3:
                raise ArithmeticError("not a number")
            return super().choose(logits, before)

    monkeypatch.setattr(batching, "Sampler", FailsLater)
    generation = SamplingParams(max_new_tokens=200)
    reading = together.prepare("Why?", [], prompt_passages=0, sampling=generation)
    other = together.stream(reading, generation)
    first = next(other)
    with pytest.raises(ArithmeticError):
        ask(together, 1, repetition_penalty=2.0)
    assert "".join([first, *other]) == "".join(reader.stream(reading, generation))


def test_closing_ends_every_answer(reader: CepeReader) -> None:
    closing = CepeReader(reader.model, reader.tokenizer)
    closing.batch = BatchDecoder(reader.model, reader.tokenizer, size=2)
    with ThreadPoolExecutor(4) as askers:
        answers = [askers.submit(ask, closing, n, max_new_tokens=300, repetition_penalty=3.0) for n in range(4)]
        time.sleep(0.05)
        closing.batch.close()
        assert any(answer.result(timeout=2)[1] == "cancelled" for answer in answers)
    assert ask(closing, 1) == ("", "cancelled")
    assert not [thread for thread in threading.enumerate() if thread is closing.batch._thread]


def test_a_sliding_window_is_refused(reader: CepeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader.model.config, "sliding_window", 64, raising=False)
    with pytest.raises(ModelError, match=r"a decoder with a sliding window \(64 tokens\)"):
        BatchDecoder(reader.model, reader.tokenizer)
