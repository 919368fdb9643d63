"""The decoder's prompt: the top passages and the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import starmap, zip_longest
from typing import TYPE_CHECKING

from ragx.errors import ConfigError
from ragx.reader.conversation import instructions, turns
from ragx.reader.examples import as_turns
from ragx.reader.task import ANSWER, Task
from ragx.types import Message, Passage
from ragx.util.control_strings import without_control_strings
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

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
    turns: int = 0
    """How many of the last turns it repeats, examples included."""


def build_prompt(
    tokenizer: Tokenizer,
    question: str,
    passages: Sequence[Passage],
    *,
    max_tokens: int,
    history: Sequence[Message] = (),
    task: Task = ANSWER,
) -> Prompt:
    """Build the prompt from as many of `passages`, best first, as fit into `max_tokens`.

    A passage that does not fit is skipped; in a document, so are all before it. The last turns of the task's examples
    and of `history`, the conversation before the question, are repeated as far as they fit into half of the room.

    Raises:
        ConfigError: the question, with the conversation's system messages, does not fit.
    """
    system = instructions(history)
    room = max_tokens - count_question_tokens(tokenizer, question, history, task)
    if room < 0:
        raise ConfigError(f"the question is too long: the prompt must fit into {max_tokens} tokens")
    alone = len(tokenizer.chat_ids(""))
    before = _last_turns(history, task, room // 2, lambda said: len(tokenizer.chat_ids("", said)) - alone)
    room = max_tokens - len(tokenizer.chat_ids(_message(question, [], system, task), before))
    blocks = tokenizer.plain_ids([_block(99, passage) for passage in passages])
    kept = _fitting(passages, [len(ids) for ids in blocks], room, task)
    # tokens may merge or split where blocks meet
    while len(prompt := tokenizer.chat_ids(_message(question, kept, system, task), before)) > max_tokens and kept:
        kept.pop()
    last = tokenizer.chat_ids(_question(question, task))
    start = len(prompt) - max(1, _common_ending(prompt, last))
    return Prompt(prompt, len(kept), start, turns=len(before) // 2)


def build_messages(
    question: str,
    passages: Sequence[Passage],
    *,
    max_tokens: int,
    history: Sequence[Message] = (),
    task: Task = ANSWER,
) -> Prompt:
    """The messages of `build_prompt`, for a model whose tokenizer is unknown: lengths are `estimate_tokens`.

    Strings in the form of control tokens are broken up, because servers may read them as such.

    Raises:
        ConfigError: as `build_prompt`.
    """
    room = max_tokens - estimate_tokens(question_messages(question, history, task))
    if room < 0:
        raise ConfigError(f"the question is too long: the prompt must fit into about {max_tokens} tokens")
    before = _last_turns(history, task, room // 2, estimate_tokens)
    sizes = [_estimate(_block(99, passage)) for passage in passages]
    kept = _fitting(passages, sizes, room - estimate_tokens(before), task)
    last = Message("user", _message(question, kept, instructions(history), task))
    said = [Message(each.role, _as_data(each.content)) for each in [*before, last]]
    return Prompt([], len(kept), 0, tuple(said), turns=len(before) // 2)


def question_messages(question: str, history: Sequence[Message] = (), task: Task = ANSWER) -> list[Message]:
    """The messages of a prompt without passages and earlier turns."""
    return [Message("user", _message(question, [], instructions(history), task))]


def estimate_tokens(messages: Sequence[Message]) -> int:
    """An estimate of the tokens of messages that is rarely too low: 8 a message, and one for 3 bytes of UTF-8.

    Of English articles it is 1.4 times what SmolLM2's tokenizer counts (docs/apis.md).
    """
    return sum(8 + _estimate(message.content) for message in messages)


def _estimate(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // 3)


def _as_data(text: str) -> str:
    return without_control_strings(without_surrogates(text))


def count_question_tokens(
    tokenizer: Tokenizer, question: str, history: Sequence[Message] = (), task: Task = ANSWER
) -> int:
    """Tokens of a prompt without passages and earlier turns: the question and the system messages."""
    return len(tokenizer.chat_ids(_message(question, [], instructions(history), task)))


def question_fits(tokenizer: Tokenizer, question: str, *, max_tokens: int) -> bool:
    """Whether `build_prompt` has room for the question."""
    return count_question_tokens(tokenizer, question) <= max_tokens


def _last_turns(
    history: Sequence[Message], task: Task, room: int, count: Callable[[list[Message]], int]
) -> list[Message]:
    kept: list[Message] = []
    for turn in reversed([*as_turns(task.examples), *turns(history)]):
        if count([*turn, *kept]) > room:
            break
        kept = [*turn, *kept]
    return kept


def _fitting(passages: Sequence[Passage], sizes: Sequence[int], room: int, task: Task) -> list[Passage]:
    kept = []
    for passage, size in zip(passages, sizes, strict=True):
        if size <= room:
            kept.append(passage)
            room -= size
        elif task.is_document:
            break
    return kept


def passage_text(passage: Passage) -> str:
    """The text of a passage as a model reads it: a line each for its title and headings, then text."""
    return "\n".join(part for part in (passage.title, passage.headings, _text(passage)) if part)


def _message(question: str, passages: Sequence[Passage], system: str, task: Task) -> str:
    before = [f"{part}\n\n" for part in (system, task.instruction) if part]
    if task.is_document:
        shown = ["\n\n" * bool(passages), *starmap(_continued, zip_longest(passages, passages[1:]))]
    else:
        shown = [_block(number, passage) for number, passage in enumerate(passages, start=1)]
    # The best passage comes last, next to the question: small decoders favour what they read last.
    return "".join([*before, *reversed(shown), _question(question, task)])


def _question(question: str, task: Task) -> str:
    return f"Question: {question}" if task.instruction else question


def _common_ending(first: Sequence[int], second: Sequence[int]) -> int:
    """How many of the last tokens are the same."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def _block(number: int, passage: Passage) -> str:
    return f"[{number}] {passage_text(passage)}\n\n"


def _continued(passage: Passage, before: Passage | None) -> str:
    """A part of a document after the part `before` it; None: the prompt holds none."""
    if before is None:
        return passage_text(passage)
    if before.document != passage.document:
        return f"\n\n{passage_text(passage)}"
    return ("\n" if before.end < passage.start else "") + _text(passage)


def _text(passage: Passage) -> str:
    return passage.text.replace("\f", "")
