"""Text to token ids. Text is data: no string in it becomes a control token, special or added.

Thread-safe: a tokenizer's settings never change after loading.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers

from ragx.errors import ModelError
from ragx.types import Message
from ragx.util.text import first_line, without_surrogates

if TYPE_CHECKING:
    from jinja2 import Template


class Tokenizer:
    """A decoder's tokenizer: `backend`, of the `tokenizers` library, and a chat template."""

    def __init__(
        self, backend: tokenizers.Tokenizer, special_tokens: Mapping[str, str], chat_template: str | None
    ) -> None:
        """`special_tokens` holds contents by name, as in `{"bos_token": "<s>"}`.

        Raises:
            ModelError: text could become a control token, or the template is invalid.
        """
        backend.no_truncation()  # readers check lengths themselves
        backend.no_padding()
        self.backend = backend
        self.special_tokens = dict(special_tokens)
        self.chat_template = chat_template
        self.control_tokens = {token.content: index for index, token in backend.get_added_tokens_decoder().items()}
        """Ids by content: all added tokens, not only those in the chat template."""
        self.bos_token_id = self.special_id("bos_token")
        self.eos_token_id = self.special_id("eos_token")
        self.pad_token_id = self.special_id("pad_token")
        unknown = self.special_id("unk_token")  # unknown characters may yield it
        self._control_ids = set(self.control_tokens.values()) - {unknown}
        self._plain = _without_added_tokens(backend)
        _keep_control_out(self._plain, self.control_tokens, unknown)
        longest_first = sorted(self.control_tokens, key=len, reverse=True)
        self._control = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        # digits pass through filters such as upper, escape and tojson
        self._start, self._end = (f"{secrets.randbelow(10**32):032}" for _ in range(2))
        self._template: Template | None = None
        if chat_template is not None:
            from ragx.util.chat_template import compile_template

            self._template = compile_template(chat_template)

    @classmethod
    def open(cls, folder: Path) -> Tokenizer:
        """A tokenizer that `save` wrote; needs neither torch nor transformers.

        Raises:
            ModelError: the files are damaged.
        """
        try:
            backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            return cls(backend, **json.loads((folder / "chat.json").read_text(encoding="utf-8")))
        except Exception as error:  # tokenizers raises many classes for damaged files
            raise ModelError(f"cannot open the tokenizer in {folder}: {first_line(error)}") from None

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `chat.json` for `open`."""
        chat = {"special_tokens": self.special_tokens, "chat_template": self.chat_template}
        self.backend.save(str(folder / "tokenizer.json"))
        (folder / "chat.json").write_text(json.dumps(chat, indent=2), encoding="utf-8")

    def special_id(self, name: str) -> int | None:
        """The id of a special token by its name, such as `mask_token`; None if there is none."""
        return self.backend.token_to_id(self.special_tokens[name]) if name in self.special_tokens else None

    def plain_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without any added tokens."""
        encodings = self._plain.encode_batch([without_surrogates(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def chat_ids(self, message: str, history: Sequence[Message] = ()) -> list[int]:
        """Token ids of a conversation that ends with a user's message, up to where the answer starts.

        Without a chat template (a base model), the messages follow the start token, if any, unchanged.

        Raises:
            ModelError: the chat template fails or refuses the conversation.
        """
        if self._template is None:
            start = [] if self.bos_token_id is None else [self.bos_token_id]
            text = "\n\n".join([*(earlier.content for earlier in history), message])
            return start + self.plain_ids([text])[0]
        from ragx.util.chat_template import render

        chat = [
            {"role": each.role, "content": self._mark(each.content)} for each in [*history, Message("user", message)]
        ]
        return self._marked_ids(render(self._template, chat, self.special_tokens))

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def _mark(self, content: str) -> str:
        """A message with its control strings between marks, which tell them from those of the template."""
        return self._control.sub(rf"{self._start}\g<0>{self._end}", without_surrogates(content))

    def _marked_ids(self, chat: str) -> list[int]:
        # pieces and marks alternate; a mark that lost its partner in the template still separates
        parts = ["", *re.split(f"({self._start}|{self._end})", chat), ""]
        ids: list[int] = []
        for before, piece, after in zip(parts[:-1:2], parts[1::2], parts[2::2], strict=True):
            if (before, after) == (self._start, self._end) and piece in self.control_tokens:
                ids += _ids_inside(self._plain, piece)
            else:
                ids += self._piece_ids(piece, is_first=not before)
        return ids

    def _piece_ids(self, piece: str, *, is_first: bool) -> list[int]:
        """Ids of a piece of a conversation in which all control strings are the template's."""
        ids = _ids(self.backend, piece) if is_first else _ids_inside(self.backend, piece)
        written = Counter(self.control_tokens[control] for control in self._control.findall(piece))
        if Counter(index for index in ids if index in self._control_ids) <= written:
            return ids
        # other text became a control token, for example in lower case: read all of it as plain text
        return [
            index
            for part in self._control.split(piece)
            for index in (
                [self.control_tokens[part]] if part in self.control_tokens else _ids_inside(self._plain, part)
            )
        ]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder, read by transformers.

    Raises:
        ModelError: the tokenizer cannot be read, text could become a control token, or its chat template fails.
    """
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        template = None if loaded.chat_template is None else loaded.get_chat_template()
        tokenizer = Tokenizer(loaded.backend_tokenizer, loaded.special_tokens_map, template)
        tokenizer.chat_ids("")
    except Exception as error:  # tokenizers raises many classes for damaged files
        raise ModelError(f"cannot load the tokenizer in {folder}: {first_line(error)}") from None
    return tokenizer


def _ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    return backend.encode(text, add_special_tokens=False).ids


def _ids_inside(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    """Ids of text that follows other text: SentencePiece would put a space before it."""
    line_break, ids = _ids(backend, "\n"), _ids(backend, f"\n{text}")
    if ids[: len(line_break)] == line_break:
        return ids[len(line_break) :]
    return _ids(backend, text)


def _without_added_tokens(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A tokenizer that shares the model, and whose added tokens are text."""
    plain = tokenizers.Tokenizer(backend.model)
    plain.normalizer, plain.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    return plain


def read_text_as_text(backend: tokenizers.Tokenizer, control: Mapping[str, int], unknown: int | None) -> None:
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
    _keep_control_out(backend, control, unknown)


def _keep_control_out(backend: tokenizers.Tokenizer, control: Mapping[str, int], unknown: int | None) -> None:
    """Also keep control tokens from being found in the vocabulary. Raises ModelError as `read_text_as_text`."""
    if _leaks(backend, control, unknown):
        _hide(backend, control)
    if leaks := _leaks(backend, control, unknown):
        raise ModelError(f"the tokenizer reads the text {leaks[0]!r} as a control token")


def _leaks(backend: tokenizers.Tokenizer, control: Mapping[str, int], unknown: int | None) -> list[str]:
    def ids(text: str) -> set[int]:
        encoding = backend.encode(text, add_special_tokens=False)
        tokens = zip(encoding.ids, encoding.attention_mask, strict=True)
        return {index for index, is_token in tokens if is_token}  # without padding

    return [content for content, index in control.items() if index != unknown and index in ids(f"a {content} b")]


def _hide(backend: tokenizers.Tokenizer, control: Mapping[str, int]) -> None:
    """Rename control tokens in the vocabulary, in which Unigram models (XLM-R, T5) look up text.

    Their ids stay: the tokenizer adds control tokens by id.
    """
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
        backend.model = tokenizers.Tokenizer.from_str(json.dumps(state)).model
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(f"cannot hide the tokenizer's control tokens: {error}") from None
