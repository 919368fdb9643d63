"""The decoder's prompt: the top passages and the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragx.errors import ConfigError
from ragx.reader.conversation import instructions, turns
from ragx.types import Message, Passage
from ragx.util.control_strings import without_control_strings
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

INSTRUCTION = "Answer the question using only the passages below. Answer in one or two short sentences."
REFUSAL = "The passages do not say."
"""The answer that readers learn for questions that no passage answers."""


@dataclass(frozen=True)
class Prompt:
    """What the decoder reads, as token ids or messages, and how many passages it contains."""

    ids: list[int]
    """(N,); empty for a model that tokenizes messages itself."""
    passages: int
    """Number of passages in the prompt."""
    question_start: int
    """The first token of the question, after the passages."""
    messages: tuple[Message, ...] = ()
    """For a model that tokenizes messages itself."""


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
    alone = len(tokenizer.chat_ids(""))
    before = _last_turns(history, room // 2, lambda said: len(tokenizer.chat_ids("", said)) - alone)
    room = max_tokens - len(tokenizer.chat_ids(_message(question, [], system), before))
    kept = []
    for passage, ids in zip(passages, tokenizer.plain_ids([_block(99, passage) for passage in passages]), strict=True):
        if len(ids) <= room:
            kept.append(passage)
            room -= len(ids)
    # tokens may merge or split where blocks meet
    while len(prompt := tokenizer.chat_ids(_message(question, kept, system), before)) > max_tokens and kept:
        kept.pop()
    last = tokenizer.chat_ids(_question(question))
    return Prompt(prompt, len(kept), len(prompt) - max(1, _common_ending(prompt, last)))


def build_messages(
    question: str, passages: Sequence[Passage], *, max_tokens: int, history: Sequence[Message] = ()
) -> Prompt:
    """The messages of `build_prompt`, for a model whose tokenizer is unknown: lengths are `estimate_tokens`.

    Strings in the form of control tokens are broken up, because servers may read them as such.

    Raises:
        ConfigError: as `build_prompt`.
    """
    room = max_tokens - estimate_tokens(question_messages(question, history))
    if room < 0:
        raise ConfigError(f"the question is too long: the prompt must fit into about {max_tokens} tokens")
    before = _last_turns(history, room // 2, estimate_tokens)
    room -= estimate_tokens(before)
    kept = []
    for passage in passages:
        if (size := _estimate(_block(99, passage))) <= room:
            kept.append(passage)
            room -= size
    last = Message("user", _message(question, kept, instructions(history)))
    said = [Message(each.role, _as_data(each.content)) for each in [*before, last]]
    return Prompt([], len(kept), 0, tuple(said))


def question_messages(question: str, history: Sequence[Message] = ()) -> list[Message]:
    """The messages of a prompt without passages and earlier turns."""
    return [Message("user", _message(question, [], instructions(history)))]


def estimate_tokens(messages: Sequence[Message]) -> int:
    """An estimate of the tokens of messages that is rarely too low: 8 a message, and one for 3 bytes of UTF-8.

    Of English articles it is 1.4 times what SmolLM2's tokenizer counts (docs/apis.md).
    """
    return sum(8 + _estimate(message.content) for message in messages)


def _estimate(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // 3)


def _as_data(text: str) -> str:
    return without_control_strings(without_surrogates(text))


def count_question_tokens(tokenizer: Tokenizer, question: str, history: Sequence[Message] = ()) -> int:
    """Tokens of a prompt without passages and earlier turns: the question and the system messages."""
    return len(tokenizer.chat_ids(_message(question, [], instructions(history))))


def question_fits(tokenizer: Tokenizer, question: str, *, max_tokens: int) -> bool:
    """Whether `build_prompt` has room for the question."""
    return count_question_tokens(tokenizer, question) <= max_tokens


def _last_turns(history: Sequence[Message], room: int, count: Callable[[list[Message]], int]) -> list[Message]:
    kept: list[Message] = []
    for turn in reversed(turns(history)):
        if count([*turn, *kept]) > room:
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
