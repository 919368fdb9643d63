"""Readers: what stands in the prompt, what is encoded, and how the answer is decoded."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from ragx import cepe
from ragx.errors import ConfigError
from ragx.reader.base import Generation, Reader
from ragx.reader.cepe import CepeReader
from ragx.reader.full import FullReader
from ragx.tokenization import load_tokenizer
from ragx.types import Passage

GENERATION = Generation(max_new_tokens=12)


def passage(number: int, text: str) -> Passage:
    return Passage(f"d#{number}", "d", f"Title {number}", text, number, 0, len(text), "d.txt")


PASSAGES = [passage(number, f"snow {number} reflects light") for number in range(5)]


@pytest.fixture(scope="module")
def cepe_reader(tiny_decoder: Path) -> CepeReader:
    return CepeReader(cepe.load(str(tiny_decoder), dtype="float32", device="cpu"), load_tokenizer(tiny_decoder))


@pytest.fixture(scope="module")
def full_reader(cepe_reader: CepeReader) -> FullReader:
    return FullReader(cepe_reader.model, cepe_reader.tokenizer)


def text_of(reader: Reader, ids: list[int]) -> str:
    return reader.tokenizer.decode(ids)


def test_the_cepe_reader_encodes_all_passages_and_prompts_with_the_top_ones(cepe_reader: CepeReader) -> None:
    reading = cepe_reader.prepare("Why?", PASSAGES, n_decoder=2, generation=GENERATION)
    prompt = text_of(cepe_reader, reading.prompt.ids)
    assert [number for number in range(5) if f"snow {number}" in prompt] == [0, 1]
    assert prompt.index("snow 1") < prompt.index("snow 0") < prompt.index("Why?")  # the best stands last
    tokens = sum(len(cepe_reader.tokenizer(f"{p.title}\n{p.text}").input_ids) for p in PASSAGES)
    assert reading.context is not None
    assert reading.context.phi.shape == (1, tokens, 32)


def test_the_full_reader_prompts_with_all_passages(full_reader: FullReader) -> None:
    reading = full_reader.prepare("Why?", PASSAGES[:2], n_decoder=0, generation=GENERATION)
    prompt = text_of(full_reader, reading.prompt.ids)
    assert all(f"snow {number}" in prompt for number in range(2))
    assert reading.context is None


def test_passages_beyond_the_window_are_left_out_from_the_worst_on(full_reader: FullReader) -> None:
    many = [passage(number, f"snow {number} " + "light " * 20) for number in range(20)]
    reading = full_reader.prepare("Why?", many, n_decoder=0, generation=GENERATION)
    prompt = text_of(full_reader, reading.prompt.ids)
    kept = [number for number in range(20) if f"snow {number} " in prompt]
    assert kept == list(range(len(kept)))
    assert 0 < len(kept) == reading.prompt.passages < 20
    assert len(reading.prompt.ids) + GENERATION.max_new_tokens <= 512
    assert reading.notes == [
        f"the decoder's window of 512 tokens holds {len(kept)} of the 20 passages meant for the prompt"
    ]


def test_a_question_beyond_the_window_is_refused(cepe_reader: CepeReader) -> None:
    with pytest.raises(ConfigError, match="the question is too long"):
        cepe_reader.prepare("why " * 600, PASSAGES, n_decoder=1, generation=GENERATION)


def test_a_passage_beyond_the_encoders_window_is_cut_and_said(cepe_reader: CepeReader) -> None:
    reading = cepe_reader.prepare("Why?", [passage(0, "light " * 700)], n_decoder=0, generation=GENERATION)
    assert reading.context is not None
    assert reading.context.tokens == 512
    assert reading.notes == ["1 passages are longer than the encoder's window of 512 tokens and were cut"]


def test_streamed_text_is_what_generate_returns(cepe_reader: CepeReader) -> None:
    reading = cepe_reader.prepare("Why?", PASSAGES, n_decoder=2, generation=GENERATION)
    pieces = list(cepe_reader.stream(reading, GENERATION))
    ids = torch.tensor([reading.prompt.ids])
    expected = cepe_reader.model.generate(ids, context=reading.context, max_new_tokens=12, do_sample=False)
    text = cepe_reader.tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True)
    assert "".join(pieces) == text.rstrip("\ufffd")
    assert len(pieces) == expected.shape[1] - ids.shape[1]


def test_closing_the_stream_stops_the_generation(cepe_reader: CepeReader) -> None:
    generation = Generation(max_new_tokens=300)
    reading = cepe_reader.prepare("Why?", PASSAGES[:1], n_decoder=1, generation=generation)
    stream = cepe_reader.stream(reading, generation)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ragx-generate"]


def test_an_error_while_generating_reaches_the_caller(cepe_reader: CepeReader) -> None:
    reading = cepe_reader.prepare("Why?", PASSAGES[:1], n_decoder=1, generation=GENERATION)
    reading.prompt.ids.append(10**6)  # no such token
    with pytest.raises(IndexError):
        list(cepe_reader.stream(reading, GENERATION))
