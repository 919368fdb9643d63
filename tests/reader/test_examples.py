"""Demonstrations: the last two in the prompt, each of the others a chunk for the encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx import cepe
from ragx.config import ReaderOptions, SamplingParams
from ragx.errors import CorpusError
from ragx.reader.cepe import CepeReader
from ragx.reader.examples import read_examples
from ragx.reader.full import FullReader
from ragx.reader.reading import read, returned
from ragx.reader.task import PLAIN, Task
from ragx.types import Hit, Message, Passage
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny import activate

SAMPLING = SamplingParams(max_new_tokens=12)
EXAMPLES = tuple((f"snow {number}?", f"light {number}") for number in range(5))
PASSAGES = [Passage(f"d#{n}", "d", "", f"snow {n} reflects light", n, 0, 22, "d.txt") for n in range(2)]


@pytest.fixture(scope="module")
def reader(tiny_decoder: Path) -> CepeReader:
    model = cepe.load(str(tiny_decoder), dtype="float32", device="cpu")
    return CepeReader(activate(model, std=0.01), load_tokenizer(tiny_decoder))


def tokens(reader: CepeReader, *texts: str) -> int:
    return sum(map(len, reader.tokenizer.plain_ids(texts)))


def test_two_examples_are_turns_and_the_others_are_encoded(reader: CepeReader) -> None:
    task = Task("", examples=EXAMPLES)
    prepared = reader.prepare("snow?", [], prompt_passages=5, sampling=SAMPLING, task=task)
    turns = "".join(
        f"<|im_start|>user\nsnow {n}?<|im_end|>\n<|im_start|>assistant\nlight {n}<|im_end|>\n" for n in (3, 4)
    )
    expected = f"{turns}<|im_start|>user\nsnow?<|im_end|>\n<|im_start|>assistant\n"
    assert reader.tokenizer.decode(prepared.prompt.ids) == expected
    assert prepared.context is not None
    encoded = [f"Question: snow {n}?\nAnswer: light {n}" for n in range(3)]
    assert prepared.context.tokens == tokens(reader, *encoded)
    assert list(prepared.context.offsets[0]) == [tokens(reader, *encoded[:n]) for n in range(4)]


def test_examples_are_encoded_after_the_passages(reader: CepeReader) -> None:
    prepared = reader.prepare("snow?", PASSAGES, prompt_passages=1, sampling=SAMPLING, task=Task(examples=EXAMPLES))
    assert prepared.context is not None
    assert list(prepared.context.offsets[0])[:3] == [0, *(tokens(reader, *[PASSAGES[0].text] * n) for n in (1, 2))]
    assert len(prepared.context.offsets[0]) - 1 == len(PASSAGES) + 3
    assert "Answer the question" in reader.tokenizer.decode(prepared.prompt.ids)


def test_a_reader_without_an_encoder_has_all_examples_in_its_prompt(reader: CepeReader) -> None:
    full = FullReader(reader.model, reader.tokenizer)
    prepared = full.prepare("snow?", [], prompt_passages=0, sampling=SAMPLING, task=Task("", examples=EXAMPLES))
    text = reader.tokenizer.decode(prepared.prompt.ids)
    assert all(f"{question}<|im_end|>" in text and answer in text for question, answer in EXAMPLES)
    assert prepared.prompt.turns == len(EXAMPLES)


def test_an_answer_without_passages_has_no_note_about_an_index(reader: CepeReader) -> None:
    assert not returned(read(reader, "snow?", [], options=ReaderOptions(), sampling=SAMPLING, task=PLAIN)).notes


def test_turns_that_do_not_fit_the_prompt_are_encoded_and_never_cited(reader: CepeReader) -> None:
    history = [
        message
        for n in range(12)
        for message in (Message("user", f"Why {n}? " + "light " * 5), Message("assistant", f"Thus {n}."))
    ]
    prepared = reader.prepare("Why?", PASSAGES, prompt_passages=1, sampling=SAMPLING, history=history)
    prompt = reader.tokenizer.decode(prepared.prompt.ids)
    shown = [n for n in range(12) if f"Why {n}? " in prompt]
    assert 0 < len(shown) == prepared.prompt.turns < 12
    assert shown == list(range(12 - len(shown), 12))
    assert prepared.context is not None
    turns = [f"Question: Why {n}? {'light ' * 5}\nAnswer: Thus {n}." for n in range(12 - len(shown))]
    assert prepared.context.tokens == tokens(reader, *(passage.text for passage in PASSAGES), *turns)
    hits = [Hit(passage, 1.0) for passage in PASSAGES]
    options = ReaderOptions(prompt_passages=1, attention_shares=True)
    answer = returned(read(reader, "Why?", hits, options=options, sampling=SAMPLING, history=history))
    assert answer.hits == hits
    assert {citation.passage_id for citation in answer.citations} <= {passage.id for passage in PASSAGES}
    assert answer.attention_shares is not None
    assert len(answer.attention_shares) == len(hits)
    assert 0 < sum(answer.attention_shares) < 1


def test_a_long_turn_is_several_chunks(reader: CepeReader) -> None:
    history = [Message("user", "light " * 300), Message("assistant", "Thus.")]
    prepared = reader.prepare("Why?", [], prompt_passages=0, sampling=SAMPLING, history=history)
    assert prepared.prompt.turns == 0
    assert prepared.context is not None
    length = tokens(reader, f"Question: {'light ' * 300}\nAnswer: Thus.")
    assert list(prepared.context.offsets[0]) == [*range(0, length, 256), length]


def test_examples_are_read_from_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"question": "a?", "answer": "b"}\n\n{"question": "c?", "answers": ["d", "e"]}\n')
    assert read_examples(path) == [("a?", "b"), ("c?", "d")]


@pytest.mark.parametrize("row", ['{"question": "a?"}', '{"question": "a?", "answers": []}', '{"answer": "b"}', ""])
def test_a_row_without_question_or_answer_is_refused(row: str, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(row)
    with pytest.raises(CorpusError, match="has no"):
        read_examples(path)
