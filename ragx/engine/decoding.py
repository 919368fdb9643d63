"""The text of an answer from its tokens, up to an end token, a stop string or the maximum length."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from tokenizers.decoders import DecodeStream

from ragx.engine.sampling import Sampler
from ragx.types import Finish, TokenLogprob

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer


class AnswerStream(Iterator[str]):
    """The text of an answer, token by token, up to its end token, a stop string or the maximum length.

    A token's text is empty while a character, or what may be a stop string, is incomplete; a later token brings it.
    """

    def __init__(
        self,
        ids: Generator[int, None, None],
        ends: Collection[int],
        tokenizer: Tokenizer,
        sampler: Sampler,
    ) -> None:
        """`ids` yields the answer's tokens, up to one of `ends`, as they are decoded; it is closed if it ends early."""
        self.tokens = 0
        """Number of tokens decoded so far."""
        self.prompt_tokens: int | None = None
        """None: the prompt is known by its tokens."""
        self.finish: Finish = "cancelled"
        """Why the answer ended."""
        self._ids, self._tokenizer, self._sampler = ids, tokenizer.backend, sampler
        self._sampling = sampler.sampling
        self._ends = ends
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._pending = ""
        self._finished = False

    def __next__(self) -> str:
        if self._finished:
            raise StopIteration
        token = next(self._ids, None)
        if token is None:
            self._finished = True
            return self._rest()
        self.tokens += 1
        if token in self._ends:
            self.finish = "stop"
        elif self.tokens == self._sampling.max_new_tokens:
            self.finish = "length"
        stops = self._sampling.stop
        self._pending += self._decoder.step(self._tokenizer, token) or ""
        end = min((at for string in stops if (at := self._pending.find(string)) >= 0), default=None)
        if end is not None:
            self.close()
            self.finish = "stop"
            return self._pending[:end]
        ready = len(self._pending) - stop_prefix(self._pending, stops)
        piece, self._pending = self._pending[:ready], self._pending[ready:]
        return piece

    @property
    def logprobs(self) -> list[TokenLogprob] | None:
        """Each token decoded so far but the one that ends the answer; None if they were not asked for."""
        if self._sampling.top_logprobs is None:
            return None
        return [
            TokenLogprob(
                self._text(each.token), each.logprob, [(self._text(token), value) for token, value in each.top]
            )
            for each in self._sampler.choices[: self.tokens]
            if each.token not in self._ends
        ]

    def close(self) -> None:
        """End the answer; nothing more is decoded."""
        self._finished = True
        self._ids.close()

    def _text(self, token: int) -> str:
        """The text of a token alone."""
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        starts_word = (self._tokenizer.id_to_token(token) or "").startswith("▁")  # decoders drop a leading space
        return f" {text}" if starts_word and not text.startswith(" ") else text

    def _rest(self) -> str:
        if not self._pending:
            raise StopIteration
        return self._pending


def stop_prefix(text: str, stops: Sequence[str]) -> int:
    """Length of the longest suffix of `text` that is a prefix of a stop string."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    return next(
        (n for n in range(min(longest, len(text)), 0, -1) if any(stop.startswith(text[-n:]) for stop in stops)), 0
    )
