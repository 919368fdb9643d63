"""Batched decoding: an answer does not depend on the other requests or their timing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragx import cepe
from ragx.config import SamplingParams
from ragx.engine.backend import decoder_of
from ragx.engine.batching import BatchDecoder
from ragx.engine.cpu.compile import compile_reader
from ragx.engine.cpu.model import CpuModel
from ragx.errors import ModelError
from ragx.reader.cepe import CepeReader
from ragx.reader.full import FullReader
from ragx.types import AttentionStrategy, Passage
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny import activate, save_decoder, with_config
from tests.helpers.waiting import eventually


@pytest.fixture(scope="module")
def torch_reader(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> CepeReader:
    """A reader whose answers depend strongly on its passages."""
    folder = Path(shutil.copytree(tiny_decoder, tmp_path_factory.mktemp("decoder"), dirs_exist_ok=True))
    save_decoder(folder, vocab_size=340, hidden_size=64, head_dim=16, max_position_embeddings=512)
    model = activate(cepe.load(str(folder), dtype="float32", device="cpu"), std=0.5)
    with torch.no_grad():
        model.lm_head.weight.mul_(5)
    return CepeReader(model, load_tokenizer(folder))


@pytest.fixture(scope="module", params=["torch", "cpu"])
def reader(
    torch_reader: CepeReader, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> CepeReader:
    """The reader on each backend."""
    if request.param == "torch":
        return torch_reader
    folder = tmp_path_factory.mktemp("compiled")
    compile_reader(torch_reader.model, folder)
    return CepeReader(CpuModel(folder), torch_reader.tokenizer)


@pytest.fixture(scope="module")
def together(reader: CepeReader) -> Iterator[CepeReader]:
    """The same reader with a batch of at most three."""
    with closing(batched_reader(reader, 3)) as batched:
        yield batched


def batched_reader(reader: CepeReader, size: int, prompt_piece: int = 256) -> CepeReader:
    batch = BatchDecoder(decoder_of(reader.model), reader.ends, size, prompt_piece=prompt_piece)
    return CepeReader(reader.model, reader.tokenizer, batch=batch)


def passages(number: int) -> list[Passage]:
    texts = [f"snow {number} reflects {'light ' * (number * place)}" for place in range(1, 1 + number % 4)]
    return [Passage(f"d#{i}", "d", "", text, i, 0, len(text), "d.txt") for i, text in enumerate(texts)]


def ask(reader: CepeReader, number: int, cancel: threading.Event | None = None, **options: object) -> tuple[str, str]:
    """The answer to question `number`, which has its own prompt, passages and length, and its finish reason."""
    sampling = SamplingParams(**{"max_new_tokens": 5 + number % 20, **options})  # type: ignore[arg-type]
    question = f"Why {number}? " + "light " * (number % 9)
    prepared = reader.prepare(question, passages(number), prompt_passages=number % 3, sampling=sampling)
    stream = reader.stream(prepared, sampling, cancel)
    return "".join(stream), stream.finish


@pytest.mark.parametrize("strategy", ["cached", "latent", "project"])
def test_attention_strategies_give_the_same_answers(torch_reader: CepeReader, strategy: AttentionStrategy) -> None:
    torch_reader.model.attention_strategy = strategy
    with closing(batched_reader(torch_reader, 3)) as batched, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: ask(batched, number), range(8)))
    assert answers == [ask(torch_reader, number) for number in range(8)]


def test_a_batched_answer_equals_the_unbatched_one(reader: CepeReader, together: CepeReader) -> None:
    alone = [ask(reader, number) for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(lambda number: ask(together, number), range(16))) == alone
    assert len(set(alone)) > 8


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(
        st.tuples(st.integers(0, 30), st.floats(0, 0.02), st.booleans()),
        min_size=1,
        max_size=5,
    ),
    prompt_piece=st.sampled_from([1, 7, 256]),
)
def test_answers_are_unchanged_when_requests_join_and_leave(
    reader: CepeReader,
    requests: list[tuple[int, float, bool]],
    prompt_piece: int,
) -> None:
    def ask_later(request: tuple[int, float, bool]) -> tuple[str, str]:
        number, delay, leaves = request
        cancel = threading.Event()
        if leaves:
            threading.Timer(delay, cancel.set).start()
        time.sleep(delay)
        return ask(batched, number, cancel, max_new_tokens=25)

    with closing(batched_reader(reader, 3, prompt_piece)) as batched, ThreadPoolExecutor(len(requests)) as threads:
        answers = list(threads.map(ask_later, requests))
    for (number, _, leaves), (text, finish) in zip(requests, answers, strict=True):
        whole, end = ask(reader, number, max_new_tokens=25)
        if leaves and finish == "cancelled":
            assert whole.startswith(text)
        else:
            assert (text, finish) == (whole, end)


def test_every_request_has_its_own_sampling_parameters(reader: CepeReader, together: CepeReader) -> None:
    options: list[dict[str, object]] = [
        {},
        {"temperature": 4.0, "seed": 1},
        {"temperature": 4.0, "seed": 2},
        {"temperature": 3.0, "seed": 1, "top_k": 5},
        {"temperature": 3.0, "seed": 1, "top_p": 0.7},
        {"temperature": 3.0, "seed": 1, "min_p": 0.1},
        {"temperature": 3.0, "seed": 1, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3},
        {"repetition_penalty": 5.0},
        {"stop": ("sno",)},
    ]
    alone = [ask(reader, 19, **each) for each in options]
    with ThreadPoolExecutor(len(options)) as threads:
        assert list(threads.map(lambda each: ask(together, 19, **each), options)) == alone
    assert len(set(alone)) == len(options)


def test_the_full_reader_shares_the_batch(reader: CepeReader, together: CepeReader) -> None:
    full = FullReader(reader.model, reader.tokenizer)
    expected = ask(full, 7)  # type: ignore[arg-type]
    full = FullReader(reader.model, reader.tokenizer, together.batch)
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(ask, together, 6)
        assert ask(full, 7) == expected  # type: ignore[arg-type]
        assert other.result() == ask(reader, 6)


def test_attention_shares_equal_those_of_an_unbatched_answer(reader: CepeReader) -> None:
    attention_shares = []
    batched = batched_reader(reader, 3, prompt_piece=16)
    for each in (reader, batched):
        prepared = each.prepare("Why?", passages(7), prompt_passages=2, sampling=SamplingParams(max_new_tokens=9))
        assert prepared.context is not None
        prepared.context.record_attention = True
        list(each.stream(prepared, SamplingParams(max_new_tokens=9)))
        shares = prepared.context.attention_shares()
        assert shares is not None
        attention_shares.append(shares)
    batched.close()
    np.testing.assert_allclose(*attention_shares, rtol=1e-3, atol=1e-4)


def is_idle(batch: BatchDecoder) -> bool:
    return not batch.running and not batch.waiting


def test_closing_a_stream_removes_its_answer_from_the_batch(together: CepeReader) -> None:
    sampling = SamplingParams(max_new_tokens=300, repetition_penalty=3.0)
    streams = []
    for number in range(5):  # two more than the batch takes
        prepared = together.prepare(f"Why {number}?", [], prompt_passages=0, sampling=sampling)
        streams.append(together.stream(prepared, sampling))
    with ThreadPoolExecutor(5) as threads:
        firsts = [threads.submit(next, stream) for stream in streams]
        for first, stream in zip(firsts, streams, strict=True):
            first.result()
            stream.close()
    batch = together.batch
    assert eventually(lambda: is_idle(batch))


def test_a_waiting_answer_can_be_cancelled(reader: CepeReader) -> None:
    cancel, sampling = threading.Event(), SamplingParams(max_new_tokens=300, repetition_penalty=3.0)
    with closing(batched_reader(reader, 1)) as batched, ThreadPoolExecutor(1) as threads:
        batch = batched.batch
        prepared = batched.prepare("Why?", [], prompt_passages=0, sampling=sampling)
        running = batched.stream(prepared, sampling)
        next(running)
        queued = threads.submit(ask, batched, 2, cancel, max_new_tokens=300)
        assert eventually(lambda: batch.waiting == 1)
        cancel.set()
        assert queued.result(timeout=60) == ("", "cancelled")
        running.close()
        assert eventually(lambda: is_idle(batch))


def test_a_prefill_error_ends_only_its_own_answer(reader: CepeReader, together: CepeReader) -> None:
    sampling = SamplingParams(max_new_tokens=20)
    broken = together.prepare("Why?", [], prompt_passages=0, sampling=sampling)
    broken.prompt.ids.append(10**6)  # no such token
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(ask, together, 14)
        with pytest.raises(IndexError):
            list(together.stream(broken, sampling))
        assert other.result() == ask(reader, 14)


def test_a_sampling_error_ends_only_its_own_answer(reader: CepeReader, together: CepeReader) -> None:
    sampling = SamplingParams(max_new_tokens=200)
    prepared = together.prepare("Why?", [], prompt_passages=0, sampling=sampling)
    other = together.stream(prepared, sampling)
    first = next(other)
    with pytest.raises(ModelError, match="cannot sample"):  # the penalty turns the logits into infinities
        ask(together, 1, repetition_penalty=1e-45, temperature=1.0)
    assert "".join([first, *other]) == "".join(reader.stream(prepared, sampling))


def test_a_prompt_can_be_answered_several_times(reader: CepeReader, together: CepeReader) -> None:
    sampling = SamplingParams(max_new_tokens=12)
    prepared = together.prepare("Why?", passages(7), prompt_passages=2, sampling=sampling)
    with ThreadPoolExecutor(3) as threads:
        answers = set(threads.map(lambda _: together.decode(prepared, sampling), range(4)))
    assert answers == {reader.decode(prepared, sampling)}


def test_closing_ends_every_answer(reader: CepeReader) -> None:
    batched = batched_reader(reader, 2)
    batch = batched.batch
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(ask, batched, n, max_new_tokens=300, repetition_penalty=3.0) for n in range(4)]
        assert eventually(lambda: batch.running + batch.waiting == 4 or any(answer.done() for answer in answers))
        batch.close()
        assert any(answer.result(timeout=60)[1] == "cancelled" for answer in answers)
    assert ask(batched, 1) == ("", "cancelled")


def test_a_decoder_with_a_sliding_window_decodes_one_answer_at_a_time(torch_reader: CepeReader) -> None:
    model = with_config(torch_reader.model, sliding_window=64)
    assert BatchDecoder(decoder_of(model), torch_reader.ends, size=3).size == 1


def test_an_answer_is_that_of_generate(torch_reader: CepeReader) -> None:
    sampling = SamplingParams(max_new_tokens=12)
    prepared, fresh = (
        torch_reader.prepare("Why?", passages(7), prompt_passages=2, sampling=sampling) for _ in range(2)
    )
    ids = torch.tensor([prepared.prompt.ids])
    expected = torch_reader.model.generate(ids, context=prepared.context, max_new_tokens=12, do_sample=False)
    fresh = torch_reader.prepare("Why?", passages(7), prompt_passages=2, sampling=SamplingParams(max_new_tokens=12))
    answer = torch_reader.batch.generate(
        fresh.prompt.ids, fresh.context, SamplingParams(max_new_tokens=12), threading.Event()
    )
    assert list(answer) == expected[0, ids.shape[1] :].tolist()


LEAVES = """
import threading, time
import numpy as np
from ragx.config import SamplingParams
from ragx.engine.batching import BatchDecoder

class Batch:
    def join(self, sequence): pass
    def leave(self, row): pass
    def step(self, tokens):
        time.sleep(0.01)
        return np.zeros(9, np.float32)[None].repeat(len(tokens), 0)
    def __del__(self):
        time.sleep(0.3)
        print("freed", flush=True)

class Decoder:
    batch_limit = None
    def sequence(self, context, room): return []
    def reuse(self, sequence, prompt): return 0
    def prefill(self, sequence, tokens, *, is_last): return np.zeros(9, np.float32)
    def batch(self): return Batch()

answer = BatchDecoder(Decoder(), ()).generate(
    [1], None, SamplingParams(max_new_tokens={tokens}, temperature=0.0), threading.Event()
)
next(answer)
"""


@pytest.mark.parametrize("tokens", [1, 10**6])
def test_a_process_that_ends_ends_its_answers_and_waits_for_their_memory(tokens: int) -> None:
    """Otherwise the thread could still be in a destructor of torch's at the exit, which aborts the process."""
    script = LEAVES.replace("{tokens}", str(tokens))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "freed\n", "")
