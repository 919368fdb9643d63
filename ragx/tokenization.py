"""Text to token ids where text is data: no string in it becomes a control token, special or merely added."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, set up for `chat_ids` and `plain_ids`."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    # every added token of the vocabulary is control, not only those that the chat template writes
    tokenizer.chat_control_tokens = [token.content for token in tokenizer.added_tokens_decoder.values()]
    return tokenizer  # type: ignore[no-any-return]


def plain_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without added tokens of any kind."""
    if all(token.special for token in tokenizer.added_tokens_decoder.values()):
        split: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True).input_ids
        return split
    backend = _without_added_tokens(tokenizer)  # splitting spares only special tokens
    return [encoding.ids for encoding in backend.encode_batch(list(texts), add_special_tokens=False)]


def chat_ids(tokenizer: PreTrainedTokenizerFast, message: str) -> list[int]:
    """Token ids of a user's message up to where the answer starts.

    A tokenizer without a chat template (a base model's) gets the message as it is, after its start token if any.
    """
    if tokenizer.chat_template is None:
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return start + plain_ids(tokenizer, [message])[0]
    ids: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}],
        add_generation_prompt=True,
        sanitize_control_tokens=True,
        return_dict=False,
    )
    return list(ids)


def _without_added_tokens(tokenizer: PreTrainedTokenizerFast) -> Any:
    """A copy of the backend tokenizer that knows only its model's vocabulary; made once a tokenizer."""
    from tokenizers import Tokenizer

    copy = getattr(tokenizer, "_ragx_plain_backend", None)
    if copy is None:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        state.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
        copy = Tokenizer.from_str(json.dumps(state))
        tokenizer._ragx_plain_backend = copy
    return copy
