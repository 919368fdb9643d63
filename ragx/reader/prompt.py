"""The decoder's prompt: the top passages and the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragx.errors import ConfigError
from ragx.reader.conversation import instructions, turns
from ragx.types import Message, Passage

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

INSTRUCTION = "Answer the question using only the passages below. Answer in one or two short sentences."


@dataclass(frozen=True)
class Prompt:
    """Token ids for the decoder, and how many passages they contain."""

    ids: list[int]
    """(N,)."""
    passages: int
    """Number of passages in the prompt."""
    question_start: int
    """The first token of the question, after the passages."""


def build_prompt(
    tokenizer: Tokenizer,
    question: str,
    passages: Sequence[Passage],
    *,
    max_tokens: int,
    history: Sequence[Message] = (),
) -> Prompt:
    """Build the prompt from as many of `passages`, best first, as fit into `max_tokens`.

    A passage that does not fit is skipped. The last turns of `history`, the conversation before the question, are
    repeated as far as they fit into half of the room.

    Raises:
        ConfigError: the question, with the conversation's system messages, does not fit.
    """
    system = instructions(history)
    room = max_tokens - count_question_tokens(tokenizer, question, history)
    if room < 0:
        raise ConfigError(f"the question is too long: the prompt must fit into {max_tokens} tokens")
    before = _last_turns(tokenizer, history, room // 2)
    room = max_tokens - len(tokenizer.chat_ids(_message(question, [], system), before))
    kept = []
    for passage, ids in zip(passages, tokenizer.plain_ids([_block(99, passage) for passage in passages]), strict=True):
        if len(ids) <= room:
            kept.append(passage)
            room -= len(ids)
    # tokens may merge or split where blocks meet
    while len(prompt := tokenizer.chat_ids(_message(question, kept, system), before)) > max_tokens and kept:
        kept.pop()
    alone = tokenizer.chat_ids(_question(question))
    return Prompt(prompt, len(kept), len(prompt) - max(1, _common_ending(prompt, alone)))


def count_question_tokens(tokenizer: Tokenizer, question: str, history: Sequence[Message] = ()) -> int:
    """Tokens of a prompt without passages and earlier turns: the question and the system messages."""
    return len(tokenizer.chat_ids(_message(question, [], instructions(history))))


def question_fits(tokenizer: Tokenizer, question: str, *, max_tokens: int) -> bool:
    """Whether `build_prompt` has room for the question."""
    return count_question_tokens(tokenizer, question) <= max_tokens


def _last_turns(tokenizer: Tokenizer, history: Sequence[Message], room: int) -> list[Message]:
    kept: list[Message] = []
    alone = len(tokenizer.chat_ids(""))
    for turn in reversed(turns(history)):
        if len(tokenizer.chat_ids("", [*turn, *kept])) - alone > room:
            break
        kept = [*turn, *kept]
    return kept


def passage_text(passage: Passage) -> str:
    """The text of a passage as a model reads it: a line each for its title and headings, then text."""
    return "\n".join(part for part in (passage.title, passage.headings, passage.text.replace("\f", "")) if part)


def _message(question: str, passages: Sequence[Passage], system: str) -> str:
    # The best passage comes last, next to the question: small decoders favour what they read last.
    blocks = [_block(number, passage) for number, passage in enumerate(passages, start=1)]
    start = f"{system}\n\n" if system else ""
    return "".join([start, f"{INSTRUCTION}\n\n", *reversed(blocks), _question(question)])


def _question(question: str) -> str:
    return f"Question: {question}"


def _common_ending(first: Sequence[int], second: Sequence[int]) -> int:
    """How many of the last tokens are the same."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def _block(number: int, passage: Passage) -> str:
    return f"[{number}] {passage_text(passage)}\n\n"
