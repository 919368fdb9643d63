"""A request's passages as tensors, from texts, token ids or encodings. Needs no vLLM."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from ragx.types import CrossAttend

FORMS = ("texts", "token_ids", "encodings")
"""Keys under which a request can send its passages; all exclude one another."""
OPTIONS = ("prompted", "question_start")
"""Further keys of a request."""

Tokenize = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class ReaderSettings:
    """What a reader's configuration says about its passages."""

    encoder_width: int
    """E."""
    encoder_window: int
    """Maximum number of tokens of a passage."""
    max_tokens: int
    """Maximum number of tokens of a request's passages, M."""
    prompted_gain: float = 1.0
    """Factor of the attention's output if some passages also stand in the prompt."""
    cross_attend: CrossAttend = "all"
    """Which tokens of a prompt attend to the passages."""
    sharpen_beyond: int | None = None
    """M beyond which scores are sharpened; None: never."""

    @classmethod
    def of(cls, config: Any) -> ReaderSettings:
        """The settings in a model folder's configuration.

        Raises:
            ValueError: it is no CEPE reader's, or a setting is invalid.
        """
        encoder = getattr(config, "encoder_config", None)
        limit = getattr(config, "max_source_positions", None)
        if encoder is None or limit is None:
            raise ValueError("this folder holds no CEPE reader for vLLM; write one with python -m ragx_vllm.export")
        encoder = encoder if isinstance(encoder, dict) else encoder.to_dict()
        cross_attend: CrossAttend = getattr(config, "cross_attend", "all")
        if cross_attend not in get_args(CrossAttend):
            raise ValueError(f"config.json: cross_attend is {cross_attend!r}, not all or question")
        return cls(
            encoder_width=int(encoder["hidden_size"]),
            encoder_window=int(encoder["max_position_embeddings"]),
            max_tokens=int(limit),
            prompted_gain=float(getattr(config, "prompted_gain", 1.0)),
            cross_attend=cross_attend,
            sharpen_beyond=getattr(config, "sharpen_beyond", None),
        )

    def sharpening(self, tokens: int) -> float:
        """Factor of the scores for M = `tokens`: (1 + ln(M / `sharpen_beyond`) / 10)², at least 1."""
        beyond = max(1.0, tokens / self.sharpen_beyond) if self.sharpen_beyond else 1.0
        return (1 + math.log(beyond) / 10) ** 2


class Factors(NamedTuple):
    """How a request attends to its passages."""

    keys: float
    """Factor of the keys, which is that of the scores."""
    values: float
    """Factor of the values, which is that of the attention's output."""
    attend_from: float
    """The first token of the prompt that attends to the passages."""


def read_passages(data: object, reader: ReaderSettings, tokenize: Tokenize) -> dict[str, Tensor]:
    """The passages of one request, in whichever form it sends them.

    Args:
        data: texts; or encodings, Φ of all passages (M, E) or a list with one (L, E) for each; or a mapping with one of
            the keys `texts`, `token_ids` (a list for each passage) and `encodings`. It may have `prompted`, whether
            some passages also stand in the prompt, and `question_start`, the question's first token in the prompt. A
            reader that attends from the question on needs it.
        reader: the reader that attends to them.
        tokenize: token ids of texts, in which no text becomes a control token.

    Returns:
        `token_ids` (T,) of the concatenated passages, `lengths` (K,), `encodings` (M, E) and `factors` (3,), as
        `Factors`. T = 0 if encodings were sent, M = 0 if not; both are 0 without passages.

    Raises:
        ValueError: the data have another form, or the passages are too long together.
    """
    values: Mapping[str, Any] = data if isinstance(data, Mapping) else {_form(data): data}
    if unknown := sorted(set(values) - {*FORMS, *OPTIONS}):
        raise ValueError(f"passages: {unknown[0]!r} is unknown; use {', '.join((*FORMS, *OPTIONS))}")
    given = [form for form in FORMS if values.get(form) is not None]
    if len(given) > 1:
        raise ValueError(f"passages: send either {given[0]} or {given[1]}")
    ids: list[list[int]] = []
    phi = torch.empty(0, reader.encoder_width)
    if given == ["encodings"]:
        phi = _encodings(values["encodings"], reader.encoder_width)
    elif given:
        ids = tokenize(_texts(values["texts"])) if given == ["texts"] else [list(each) for each in values["token_ids"]]
        ids = [each[: reader.encoder_window] for each in ids]
    lengths = [len(each) for each in ids]
    tokens = sum(lengths) + len(phi)
    if tokens > reader.max_tokens:
        raise ValueError(
            f"the passages have {tokens} tokens, more than the {reader.max_tokens} that this server reads; send fewer,"
            " or raise max_source_positions and max_num_batched_tokens"
        )
    return {
        "token_ids": torch.tensor([token for each in ids for token in each], dtype=torch.long),
        "lengths": torch.tensor(lengths, dtype=torch.long),
        "encodings": phi,
        "factors": torch.tensor(_factors(values, reader, tokens), dtype=torch.float32),
    }


def fingerprint(prompt: Sequence[int]) -> int:
    """A checksum of token ids that a float32 holds exactly."""
    return zlib.crc32(b"".join(token.to_bytes(4, "little") for token in prompt)) & 0xFFFFFF


def order_of(prompts: Sequence[Sequence[int]], rows: Sequence[int], items: Sequence[tuple[int, int, int]]) -> list[int]:
    """Which item belongs to each prompt of a step.

    Args:
        prompts: the tokens that the step reads of each prompt, and perhaps of its answer, if vLLM reads both again.
        rows: rows of Φ that vLLM expects for each.
        items: rows of Φ, prompt tokens and `fingerprint` of each item, in the order in which vLLM encoded them.

    Raises:
        RuntimeError: a prompt has no item.
    """
    rest = list(range(len(items)))
    order = []
    for tokens, expected in zip(prompts, rows, strict=True):
        for index in rest:
            count, length, checksum = items[index]
            if count == expected and length <= len(tokens) and fingerprint(tokens[:length]) == checksum:
                break
        else:
            raise RuntimeError("vLLM gave a prompt without its passages")
        rest.remove(index)
        order.append(index)
    return order


def context_rows(passages: Mapping[str, Tensor]) -> int:
    """M, or 1 without passages: then a row of zeros stands for them, which adds nothing and keeps attention defined."""
    return max(1, int(passages["lengths"].sum()) + passages["encodings"].shape[0])


def _form(data: object) -> str:
    is_encodings = hasattr(data, "shape") or (isinstance(data, list | tuple) and any(hasattr(d, "shape") for d in data))
    return "encodings" if is_encodings else "texts"


def _texts(texts: object) -> list[str]:
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ValueError("passages: texts must be a list of strings")
    return list(texts)


def _encodings(data: Any, width: int) -> Tensor:
    each = list(data) if isinstance(data, list | tuple) else [data]
    tensors = [torch.as_tensor(encodings) for encodings in each]
    for tensor in tensors:
        if tensor.ndim != 2 or tensor.shape[1] != width or not tensor.is_floating_point():
            form = f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
            raise ValueError(f"passages: encodings must be floating-point rows of width {width}, got {form}")
    return torch.cat(tensors).cpu() if tensors else torch.empty(0, width)


def _factors(values: Mapping[str, Any], reader: ReaderSettings, tokens: int) -> Factors:
    prompted, start = values.get("prompted", False), values.get("question_start", 0)
    if not isinstance(prompted, bool):
        raise ValueError(f"passages: prompted must be true or false, got {prompted!r}")
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise ValueError(f"passages: question_start must be a number of tokens, at least 0, got {start!r}")
    if reader.cross_attend == "question" and tokens and "question_start" not in values:
        raise ValueError("passages: this reader attends from the question on; send its first token as question_start")
    gain = reader.prompted_gain if prompted else 1.0
    return Factors(reader.sharpening(tokens), gain, start if reader.cross_attend == "question" else 0)
