"""Make an embedder's tokenizer read control strings as text: `[SEP]` in a passage yields no separator token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ragx.errors import ModelError
from ragx.util import tokenization

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerBase


def read_text_as_text(tokenizer: PreTrainedTokenizerBase) -> None:
    """Change `tokenizer` in place so that text never yields control tokens; those it adds around a text stay.

    Control tokens are its special tokens and the added ones that look like markup. Added words and runs of white space
    are vocabulary like any other and stay whole.

    Raises:
        ModelError: control tokens cannot be kept out of text, as with an unusual kind of tokenizer.
    """
    control = _control(tokenizer.added_tokens_decoder)
    tokenizer.split_special_tokens = True
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        tokenization.read_text_as_text(backend, control, tokenizer.unk_token_id)
        return
    for content, index in control.items():
        if index != tokenizer.unk_token_id and index in tokenizer.encode(f"a {content} b", add_special_tokens=False):
            raise ModelError(f"its tokenizer reads the text {content!r} as a control token")


def plain_text_tokenizer(state: str, unknown: int | None) -> Tokenizer:
    """A tokenizer that reads text as text, and neither truncates nor pads; threads may share it.

    Args:
        state: tokenizer.json.
        unknown: id of the unknown token, which unknown characters may yield.

    Raises:
        ModelError: as `read_text_as_text`.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(state)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenization.read_text_as_text(tokenizer, _control(tokenizer.get_added_tokens_decoder()), unknown)
    return tokenizer


def _control(added: Mapping[int, AddedToken]) -> dict[str, int]:
    return {
        token.content: index
        for index, token in added.items()
        if token.special or not (token.content.isspace() or token.content.replace(" ", "").isalnum())
    }
