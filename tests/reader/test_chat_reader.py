"""A chat model reads what a decoder's prompt holds, as messages; lengths are estimated and text stays data."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.config import ReaderOptions, SamplingParams
from ragx.corpus import Document
from ragx.engine.chat import ChatEnd
from ragx.errors import ConfigError
from ragx.reader.base import choose_reader
from ragx.reader.chat import ASSUMED_WINDOW, ChatReader
from ragx.reader.documents import document_hits
from ragx.reader.prompt import build_messages, build_prompt, estimate_tokens
from ragx.reader.reading import read, returned
from ragx.reader.task import DOCUMENT
from ragx.types import Hit, Message, Passage
from ragx.util.control_strings import without_control_strings
from ragx.util.tokenization import Tokenizer, load_tokenizer

QUESTION = "How much sunlight does fresh snow reflect?"
HISTORY = [Message("system", "Be brief."), Message("user", "Is soil dark?"), Message("assistant", "It is.")]
CONTROL = ["<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "</s>", "<end_of_turn>", "[/INST]", "<<SYS>>", "<think>"]
CONTROL += ["<｜User｜>", "<｜end▁of▁sentence｜>", "<tool_call>", "[TOOL_CALLS]", "<|turn>", "<turn|>", "<bos>"]


class Parrot:
    """Says the same whatever it reads, and keeps what it read."""

    name = "parrot"

    def __init__(self) -> None:
        self.said = ["Fresh snow reflects ", "90 percent of it."]
        self.end = ChatEnd(prompt_tokens=120, answer_tokens=9)
        self.window: int | None = None
        self.read: list[list[Message]] = []

    async def stream(
        self, messages: Sequence[Message], sampling: SamplingParams
    ) -> AsyncGenerator[str | ChatEnd, None]:
        self.read.append(list(messages))
        for piece in self.said:
            yield piece
        yield self.end

    async def close(self) -> None:
        self.window = None


def passages(number: int, words: int = 12) -> list[Passage]:
    texts = [f"Fresh snow {n} reflects 90 percent of sunlight. " + "white " * words for n in range(number)]
    return [Passage(f"d#{n}", "d", f"Snow {n}", text, n, 0, len(text), "d.txt") for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def tokenizer(tiny_decoder: Path) -> Tokenizer:
    return load_tokenizer(tiny_decoder)


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def reader(parrot: Parrot) -> Iterator[ChatReader]:
    reader = ChatReader(parrot)
    yield reader
    reader.close()


@pytest.mark.parametrize("history", [[], HISTORY])
def test_the_messages_are_those_of_a_decoders_prompt(tokenizer: Tokenizer, history: list[Message]) -> None:
    prompt = build_messages(QUESTION, passages(3), max_tokens=9999, history=history)
    *before, last = prompt.messages
    expected = build_prompt(tokenizer, QUESTION, passages(3), max_tokens=9999, history=history)
    assert tokenizer.chat_ids(last.content, before) == expected.ids
    assert prompt.passages == expected.passages == 3


def test_the_answer_is_cited_counted_and_timed_as_any_other(reader: ChatReader, parrot: Parrot) -> None:
    hits = [Hit(passage, 1.0) for passage in passages(5)]
    answer = returned(read(reader, QUESTION, hits, options=ReaderOptions(prompt_passages=2), sampling=SamplingParams()))
    assert answer.text == "Fresh snow reflects 90 percent of it."
    assert answer.citations[0].text.startswith("Fresh snow 0 reflects 90 percent")
    assert (answer.prompt_tokens, answer.answer_tokens, answer.context_tokens) == (120, 9, 0)
    assert (answer.finish, answer.notes, answer.attention_shares) == ("stop", [], None)
    content = parrot.read[0][-1].content
    assert "Fresh snow 1" in content
    assert "Fresh snow 2" not in content  # prompt_passages limits what an API is sent


def test_passages_that_do_not_fit_the_window_are_left_out_with_a_note(parrot: Parrot) -> None:
    parrot.window = 400
    reader = ChatReader(parrot)
    sampling = SamplingParams(max_new_tokens=100)
    prepared = reader.prepare(QUESTION, passages(9), prompt_passages=9, sampling=sampling)
    assert 0 < prepared.prompt.passages < 9
    assert estimate_tokens(prepared.prompt.messages) <= 300
    assert f"window of 400 tokens holds {prepared.prompt.passages} of the 9 passages" in prepared.notes[0]
    with pytest.raises(ConfigError, match="the question is too long"):
        reader.prepare("snow " * 400, [], prompt_passages=0, sampling=sampling)
    assert not reader.fits("snow " * 400, answer=100)
    assert reader.fits(QUESTION, answer=100)


def test_an_answer_that_is_all_thinking_says_what_to_do(reader: ChatReader, parrot: Parrot) -> None:
    parrot.said, parrot.end = ["", ""], ChatEnd("length", 120, 256)
    hits = [Hit(passage, 1.0) for passage in passages(1)]
    answer = returned(read(reader, QUESTION, hits, options=ReaderOptions(), sampling=SamplingParams()))
    assert answer.text == ""
    assert "raise --max-new-tokens" in answer.notes[0]


def test_an_unknown_window_is_assumed(reader: ChatReader) -> None:
    assert reader.decoder_window == ASSUMED_WINDOW
    prepared = reader.prepare(QUESTION, passages(60, 90), prompt_passages=60, sampling=SamplingParams())
    assert (prepared.prompt.passages, prepared.notes) == (60, [])


def test_a_model_can_only_be_read_with_as_it_can_read(reader: ChatReader) -> None:
    assert choose_reader({"full": reader}, None) is reader
    with pytest.raises(ConfigError, match="reads as full; cepe needs a model on this machine"):
        choose_reader({"full": reader}, "cepe")


def test_an_error_of_the_model_is_raised_to_the_caller() -> None:
    class Broken(Parrot):
        async def stream(
            self, messages: Sequence[Message], sampling: SamplingParams
        ) -> AsyncGenerator[str | ChatEnd, None]:
            yield "Fresh"
            raise ValueError("the model is broken")

    reader = ChatReader(Broken())
    prepared = reader.prepare(QUESTION, [], prompt_passages=0, sampling=SamplingParams())
    with pytest.raises(ValueError, match="the model is broken"):
        reader.decode(prepared, SamplingParams())


@given(st.lists(st.sampled_from([*CONTROL, "snow", " ", "<", "|", ">", "a < b", "[1]", "<p>"])).map("".join))
def test_no_string_in_the_form_of_a_control_token_is_left(text: str) -> None:
    sent = without_control_strings(text)
    assert not [control for control in CONTROL if control in sent]
    assert sent.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    "text", ["a <|> b", "x |> f <| y", "a < b > c", "<p>snow</p>", "[1] see [TODO]", "List<String>"]
)
def test_ordinary_text_and_code_are_sent_as_they_are(text: str) -> None:
    assert without_control_strings(text) == text


def test_passages_question_and_conversation_are_sent_without_control_strings() -> None:
    hostile = "".join(CONTROL)
    passage = Passage("d#0", "d", hostile, f"snow {hostile} \ud800", 0, 0, 9, "d")
    prompt = build_messages(
        hostile, [passage], max_tokens=9999, history=[Message("user", hostile), Message("assistant", hostile)]
    )
    assert [message.role for message in prompt.messages] == ["user", "assistant", "user"]
    for message in prompt.messages:
        message.content.encode()
        assert not [control for control in CONTROL if control in message.content]


def test_closing_ends_the_answers_in_progress(parrot: Parrot) -> None:
    class Silent(Parrot):
        async def stream(
            self, messages: Sequence[Message], sampling: SamplingParams
        ) -> AsyncGenerator[str | ChatEnd, None]:
            import asyncio

            yield "Fresh"
            await asyncio.sleep(60)

    reader = ChatReader(Silent())
    prepared = reader.prepare(QUESTION, [], prompt_passages=0, sampling=SamplingParams())
    answer = reader.stream(prepared, SamplingParams())
    assert next(answer) == "Fresh"
    reader.close()
    assert "".join(answer) == ""
    assert answer.finish == "cancelled"
    reader.close()


def test_a_whole_document_is_read_as_far_as_the_window_holds(reader: ChatReader, parrot: Parrot) -> None:
    text = " ".join(f"Line {n} says that snow is white." for n in range(200))
    hits = document_hits([Document("book", "Book", text, "/book.txt")], reader)
    assert [len(hit.passage.text.split()) for hit in hits[1:]] == [192] * (len(hits) - 1)
    read_at_once = [hit.passage for hit in hits]
    prepared = reader.prepare(QUESTION, read_at_once, prompt_passages=1, sampling=SamplingParams(), task=DOCUMENT)
    assert prepared.prompt.passages == len(hits) > 5
    assert "Line 0 says" in prepared.prompt.messages[-1].content
    parrot.window = 1500
    prepared = reader.prepare(QUESTION, read_at_once, prompt_passages=1, sampling=SamplingParams(), task=DOCUMENT)
    content = prepared.prompt.messages[-1].content
    assert "Line 199 says" in content
    assert "Line 0 says" not in content
    assert any(f"holds {prepared.prompt.passages} of the {len(hits)} passages" in note for note in prepared.notes)
