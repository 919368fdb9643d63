"""The decoder's prompt: the top passages and the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragx.errors import ConfigError
from ragx.reader.conversation import instructions, turns
from ragx.types import Message, Passage
from ragx.util.tokenization import chat_ids, plain_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

INSTRUCTION = "Answer the question using only the passages below. Answer in one or two short sentences."


@dataclass(frozen=True)
class Prompt:
    """Token ids for the decoder and what they hold."""

    ids: list[int]
    """(N,)."""
    passages: int
    """How many passages the prompt holds."""


def build_prompt(
    tokenizer: PreTrainedTokenizerFast,
    question: str,
    passages: Sequence[Passage],
    *,
    max_tokens: int,
    history: Sequence[Message] = (),
) -> Prompt:
    """The prompt of as many of `passages`, from the best on, as fit into `max_tokens`.

    A passage that does not fit is passed over for the next. Of the conversation before the question, `history`, the
    last turns that fit into half of the room are repeated.

    Raises:
        ConfigError: the question, with the conversation's system messages, does not fit.
    """
    system = instructions(history)
    room = max_tokens - len(chat_ids(tokenizer, _message(question, [], system)))
    if room < 0:
        raise ConfigError(f"the question is too long for this model: its prompt must fit into {max_tokens} tokens")
    before = _last_turns(tokenizer, history, room // 2)
    room = max_tokens - len(chat_ids(tokenizer, _message(question, [], system), before))
    kept = []
    for passage, ids in zip(passages, plain_ids(tokenizer, [_block(99, passage) for passage in passages]), strict=True):
        if len(ids) <= room:
            kept.append(passage)
            room -= len(ids)
    # tokens may merge or part where blocks meet
    while len(prompt := chat_ids(tokenizer, _message(question, kept, system), before)) > max_tokens and kept:
        kept.pop()
    return Prompt(prompt, len(kept))


def question_fits(tokenizer: PreTrainedTokenizerFast, question: str, *, max_tokens: int) -> bool:
    """Whether `build_prompt` has room for the question at least."""
    return len(chat_ids(tokenizer, _message(question, [], ""))) <= max_tokens


def _last_turns(tokenizer: PreTrainedTokenizerFast, history: Sequence[Message], room: int) -> list[Message]:
    kept: list[Message] = []
    alone = len(chat_ids(tokenizer, ""))
    for turn in reversed(turns(history)):
        if len(chat_ids(tokenizer, "", [*turn, *kept])) - alone > room:
            break
        kept = [*turn, *kept]
    return kept


def passage_text(passage: Passage) -> str:
    """What a model reads of a passage: its title, then its text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def _message(question: str, passages: Sequence[Passage], system: str) -> str:
    # The best passage stands last, next to the question: small decoders heed what they read last.
    blocks = [_block(number, passage) for number, passage in enumerate(passages, start=1)]
    start = f"{system}\n\n" if system else ""
    return "".join([start, f"{INSTRUCTION}\n\n", *reversed(blocks), f"Question: {question}"])


def _block(number: int, passage: Passage) -> str:
    return f"[{number}] {passage_text(passage)}\n\n"
