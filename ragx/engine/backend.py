"""What the engine needs of a model, whichever library computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ragx.cepe.store import OnEncoded, Passages, PassageStore, Rows
from ragx.types import CrossAttend, EncodingFormat


class Batch(Protocol):
    """Sequences that decode a token each per step, one row each."""

    def join(self, sequence: Any) -> None:
        """Add a sequence whose prompt has been read, as the last row."""

    def leave(self, row: int) -> None:
        """Remove a row; the last row takes its place."""

    def step(self, tokens: Sequence[int]) -> np.ndarray:
        """Read one token of each row; the logits (B, V) float32 after it."""


class DecoderModel(Protocol):
    """A decoder that reads prompts piece by piece and decodes in batches."""

    batch_limit: int | None
    """Maximum number of sequences in a batch; None: any."""

    def sequence(self, context: Any, room: int) -> Any:
        """A sequence of up to `room` tokens that attends to `context`; None: to no passages."""

    def reuse(self, sequence: Any, prompt: Sequence[int]) -> int:
        """Give a new sequence the beginning that its prompt shares with an earlier one; the tokens it has now."""

    def prefill(self, sequence: Any, tokens: Sequence[int], *, is_last: bool) -> np.ndarray:
        """Read the next tokens of a prompt; the logits (V,) float32 after the last of them."""

    def batch(self) -> Batch:
        """An empty batch."""


class ContextLike(Protocol):
    """The encoded passages of a question, as a backend attends to them."""

    attend_from: int
    """The first token of the prompt that attends to the passages."""
    gain: float
    """Factor of the attention's output; at 0 the decoder behaves as without passages."""
    record_attention: bool
    """Whether to record how much of the attention each passage receives."""

    @property
    def tokens(self) -> int:
        """M."""

    def attention_shares(self) -> Any:
        """Each passage's share of the recorded attention, (1, K); None if nothing was recorded."""


class ReaderModel(Protocol):
    """A CEPE reader on one of the backends."""

    plugged_in: str | None
    """Identifies the reader and its decoder, if that is not the one it was trained with."""
    sharpen_beyond: int | None
    """Tokens of passages beyond which a context that it makes sharpens the scores; None: never."""

    @property
    def window(self) -> int:
        """Maximum number of tokens of prompt and answer."""

    @property
    def encoder_window(self) -> int:
        """Maximum number of tokens of a passage that the encoder reads."""

    @property
    def encoder_width(self) -> int:
        """E."""

    @property
    def encoded_limit(self) -> int:
        """Tokens of passages that half of the free memory holds while a question is answered."""

    @property
    def encoder_dtype(self) -> str:
        """Number format of the encoder's weights, such as float32."""

    @property
    def end_tokens(self) -> set[int]:
        """The decoder's own tokens that end an answer."""

    @property
    def is_trained(self) -> bool:
        """Whether cross-attention has an effect."""

    @property
    def prompted_gain(self) -> float:
        """The context's `gain` if some passages are also in the prompt."""

    @property
    def cross_attend(self) -> CrossAttend:
        """Which tokens of a prompt attend to the passages: `all`, or those of the `question` and what follows it."""

    def encode_passages(
        self, passages: Passages, store: PassageStore | None = None, on_encoded: OnEncoded | None = None
    ) -> ContextLike:
        """Encode one question's passages, which `store` keeps on disk; each has at most `encoder_window` tokens.

        With a store, `on_encoded` is called between batches; an error that it raises ends encoding.
        """

    def encode_rows(self, passages: Passages, format: EncodingFormat) -> Rows:
        """Encode passages in one batch: their concatenated rows (M, E) in a stored format."""

    def encoder_fingerprint(self) -> str:
        """SHA-256 (hex) of all that determines an encoding: weights, embeddings, number format and settings."""

    def weights_digest(self) -> str:
        """The first 16 hex digits of a SHA-256 over every weight and its number format."""


def decoder_of(model: Any) -> DecoderModel:
    """A reader's model as the engine decodes with it."""
    from ragx.engine.cpu.model import CpuModel
    from ragx.engine.mixture import MixtureDecoder

    if isinstance(model, CpuModel):
        return MixtureDecoder(model)
    from ragx.engine.torch_decoder import TorchDecoder

    return MixtureDecoder(TorchDecoder(model))
