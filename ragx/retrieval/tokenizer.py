"""Makes a tokenizer read text as text: a passage or question that says `[SEP]` gets no separator token."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from ragx.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


def read_text_as_text(tokenizer: PreTrainedTokenizerBase) -> None:
    """Change `tokenizer` in place so that no text gives a control token; the ones it adds around a text stay.

    Control tokens are its special tokens and the added ones that look like markup. Added words and runs of white space
    are vocabulary like any other and stay whole.

    Raises:
        ModelError: control tokens cannot be kept out of text, which can be for an unusual kind of tokenizer.
    """
    control = {
        token.content: index
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special or not (token.content.isspace() or token.content.replace(" ", "").isalnum())
    }
    tokenizer.split_special_tokens = True
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # `split_special_tokens` skips special tokens only, so the others that look like markup become special.
        backend.add_special_tokens(list(control))
        if _leaks(tokenizer, control):
            _hide(backend, control)
    if leaks := _leaks(tokenizer, control):
        raise ModelError(f"its tokenizer reads the text {leaks[0]!r} as a control token")


def _leaks(tokenizer: PreTrainedTokenizerBase, control: dict[str, int]) -> list[str]:
    unknown = tokenizer.unk_token_id  # an honest reading of a text's unknown characters
    return [
        content
        for content, index in control.items()
        if index != unknown and index in tokenizer.encode(f"a {content} b", add_special_tokens=False)
    ]


def _hide(backend: Tokenizer, control: dict[str, int]) -> None:
    """Rename control tokens in the model's vocabulary, where a Unigram model (XLM-R, T5) finds them in text.

    They keep their ids: the tokenizer itself adds them by id.
    """
    from tokenizers import Tokenizer

    state = json.loads(backend.to_str())
    model = state["model"]
    hidden = secrets.token_hex(16)  # so that no text can say it

    def name(piece: str, index: int) -> str:
        return f"{hidden} {index}" if control.get(piece) == index and piece != model.get("unk_token") else piece

    if isinstance(model["vocab"], list):
        model["vocab"] = [[name(piece, index), score] for index, (piece, score) in enumerate(model["vocab"])]
    else:
        model["vocab"] = {name(piece, index): index for piece, index in model["vocab"].items()}
    state.update(added_tokens=[], post_processor=None)
    try:
        backend.model = Tokenizer.from_str(json.dumps(state)).model
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(f"control tokens cannot be kept out of its tokenizer's text: {error}") from None
