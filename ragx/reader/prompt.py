"""The decoder's prompt: the top passages and the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragx.errors import ConfigError
from ragx.tokenization import chat_ids
from ragx.types import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

INSTRUCTION = "Answer the question using only the passages below. Answer in one or two short sentences."


@dataclass(frozen=True)
class Prompt:
    """Token ids for the decoder and what they hold."""

    ids: list[int]
    """(N,)."""
    passages: int
    """How many passages, from the best on, the prompt holds."""


def build_prompt(
    tokenizer: PreTrainedTokenizerFast, question: str, passages: Sequence[Passage], *, max_tokens: int
) -> Prompt:
    """The prompt of as many of `passages`, from the best on, as fit into `max_tokens`.

    Raises:
        ConfigError: the question alone does not fit.
    """
    ids = chat_ids(tokenizer, _message(question, passages))
    if len(ids) <= max_tokens:
        return Prompt(ids, len(passages))
    # The longest prefix that fits; a prompt grows with every passage, so halve the interval.
    fits, too_many = -1, len(passages)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if len(chat_ids(tokenizer, _message(question, passages[:middle]))) <= max_tokens:
            fits = middle
        else:
            too_many = middle
    if fits < 0:
        raise ConfigError(f"the question is too long for this model: its prompt must fit into {max_tokens} tokens")
    return Prompt(chat_ids(tokenizer, _message(question, passages[:fits])), fits)


def passage_text(passage: Passage) -> str:
    """What a model reads of a passage: its title, then its text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def _message(question: str, passages: Sequence[Passage]) -> str:
    # The best passage stands last, next to the question: small decoders heed what they read last.
    blocks = [f"[{number}] {passage_text(passage)}" for number, passage in enumerate(passages, start=1)]
    return "\n\n".join([INSTRUCTION, *reversed(blocks), f"Question: {question}"])
