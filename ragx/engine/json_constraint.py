"""JsonConstraint: answers that are JSON and fit a schema, by llguidance."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragx.errors import ConfigError
from ragx.util.text import first_line

if TYPE_CHECKING:
    from llguidance import LLTokenizer

    from ragx.util.tokenization import Tokenizer


class JsonConstraint:
    """Allows the tokens with which an answer can still become JSON that fits a schema, and then those that end it."""

    def __init__(self, schema: str, tokenizer: Tokenizer, ends: Collection[int]) -> None:
        """`ends` are the tokens that end an answer.

        Raises:
            ConfigError: the schema is not JSON or cannot be enforced, or llguidance is not installed.
        """
        try:
            from llguidance import LLMatcher
        except ImportError:
            raise ConfigError("answers in JSON need one more package: pip install 'ragx[serve]'") from None
        try:
            # one form of white space: small models would go on with it forever
            grammar = LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_flexible": False})
        except ValueError as error:
            raise ConfigError(f"the JSON schema cannot be used: {first_line(error)}") from None
        self._matcher = LLMatcher(_vocabulary(tokenizer, frozenset(ends)), grammar)
        self._check()

    def allowed(self, count: int) -> NDArray[np.bool_]:
        """Whether each of the first `count` tokens may come next, (V,)."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        allowed = np.zeros(count, np.bool_)  # the embeddings may have more rows than there are tokens
        known = np.unpackbits(bits, count=min(count, 8 * len(bits)), bitorder="little")
        allowed[: len(known)] = known
        return allowed

    def accept(self, token: int) -> None:
        """Continue after a token."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ConfigError(f"the JSON schema cannot be used: {self._matcher.get_error().partition(chr(10))[0]}")


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: Tokenizer, ends: frozenset[int]) -> LLTokenizer:
    """The tokens by their bytes, which takes a second."""
    from llguidance import LLTokenizer

    return LLTokenizer(tokenizer.backend.to_str(), eos_token=sorted(ends))
