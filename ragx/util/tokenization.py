"""Text to token ids. Text is data: no string in it becomes a control token, special or added.

Thread-safe: a tokenizer's settings never change after loading.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ragx.errors import ModelError
from ragx.types import Message
from ragx.util.text import first_line, without_surrogates

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

_chat_lock = threading.Lock()
_plain_backends: WeakKeyDictionary[PreTrainedTokenizerFast, Tokenizer] = WeakKeyDictionary()
"""For each tokenizer from `load_tokenizer`, the backend that reads all text as plain text."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, set up for `chat_ids` and `plain_ids`.

    Raises:
        ModelError: the tokenizer cannot be read, or text could become a control token.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        plain.no_truncation()
        plain.no_padding()
    except Exception as error:  # tokenizers raises many classes for damaged files
        raise ModelError(f"cannot load the tokenizer in {folder}: {first_line(error)}") from None
    tokenizer.model_max_length = sys.maxsize  # no warnings: readers check lengths themselves
    # treat every added token as control, not only those in the chat template
    control = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
    tokenizer.chat_control_tokens = list(control)
    read_text_as_text(plain, control, tokenizer.unk_token_id)
    _plain_backends[tokenizer] = plain
    try:
        chat_ids(tokenizer, " ".join(control))
    except ValueError as error:
        raise ModelError(f"the tokenizer in {folder} would accept control tokens in a chat: {error}") from None
    return tokenizer  # type: ignore[no-any-return]


def plain_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without any added tokens."""
    backend: Tokenizer = _plain_backends[tokenizer]
    encodings = backend.encode_batch([without_surrogates(text) for text in texts], add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def chat_ids(tokenizer: PreTrainedTokenizerFast, message: str, history: Sequence[Message] = ()) -> list[int]:
    """Token ids of a conversation that ends with a user's message, up to where the answer starts.

    Without a chat template (a base model), the messages follow the start token, if any, unchanged.
    """
    if tokenizer.chat_template is None:
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        text = "\n\n".join([*(earlier.content for earlier in history), message])
        return start + plain_ids(tokenizer, [text])[0]
    chat = [*history, Message("user", message)]
    with _chat_lock:
        ids: Any = tokenizer.apply_chat_template(
            [{"role": each.role, "content": without_surrogates(each.content)} for each in chat],
            add_generation_prompt=True,
            sanitize_control_tokens=True,
            return_dict=False,
        )
    return list(ids)


def read_text_as_text(backend: Tokenizer, control: dict[str, int], unknown: int | None) -> None:
    """Change `backend` in place so that no text yields a control token; it may still add some around the text.

    Args:
        backend: a tokenizer of the `tokenizers` library.
        control: ids of the control tokens by content.
        unknown: id of the unknown token, which unknown characters may yield.

    Raises:
        ModelError: text could still become a control token, in an unusual kind of tokenizer.
    """
    # `encode_special_tokens` affects special tokens only, so make the added ones special
    backend.add_special_tokens(list(control))
    backend.encode_special_tokens = True
    if _leaks(backend, control, unknown):
        _hide(backend, control)
    if leaks := _leaks(backend, control, unknown):
        raise ModelError(f"the tokenizer reads the text {leaks[0]!r} as a control token")


def _leaks(backend: Tokenizer, control: dict[str, int], unknown: int | None) -> list[str]:
    def ids(text: str) -> set[int]:
        encoding = backend.encode(text, add_special_tokens=False)
        tokens = zip(encoding.ids, encoding.attention_mask, strict=True)
        return {index for index, is_token in tokens if is_token}  # without padding

    return [content for content, index in control.items() if index != unknown and index in ids(f"a {content} b")]


def _hide(backend: Tokenizer, control: dict[str, int]) -> None:
    """Rename control tokens in the vocabulary, in which Unigram models (XLM-R, T5) look up text.

    Their ids stay: the tokenizer adds control tokens by id.
    """
    from tokenizers import Tokenizer

    state = json.loads(backend.to_str())
    model = state["model"]
    secret = secrets.token_hex(16)  # no text can contain it

    def name(piece: str, index: int) -> str:
        return f"{secret} {index}" if control.get(piece) == index and piece != model.get("unk_token") else piece

    if isinstance(model["vocab"], list):
        model["vocab"] = [[name(piece, index), score] for index, (piece, score) in enumerate(model["vocab"])]
    else:
        model["vocab"] = {name(piece, index): index for piece, index in model["vocab"].items()}
    state.update(added_tokens=[], post_processor=None)
    try:
        backend.model = Tokenizer.from_str(json.dumps(state)).model
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(f"cannot hide the tokenizer's control tokens: {error}") from None
