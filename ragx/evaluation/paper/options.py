"""The options of the paper's tables; their defaults are the paper's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ragx.errors import ConfigError
from ragx.util.settings import Settings


class ContestOptions(Settings):
    """What all tables have in common."""

    reader: str = "cepe,full,replug,streaming"
    """Readers, rows of each model."""
    beyond_window: bool = False
    """Also measure decoders on longer texts than they were made for."""
    ratio: str | None = None
    """extensible: tokens for each embedding, rows. Default: those that it was trained with."""
    embedder: str = "contriever"
    """Weighs replug's passages that no index has weighed; none: all the same."""
    limit: int | None = Field(default=None, ge=1)
    """Maximum number of examples of a data set."""
    device: str | None = None
    """cpu, cuda, cuda:1, or auto for all GPUs. Default: a GPU if there is one."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the models; auto: the fastest on the device."""
    bits: Literal[4, 8] | None = None
    """Quantize the decoders to 4 or 8 bits (bitsandbytes)."""
    sharpen_beyond: int | None = Field(default=None, ge=1)
    """cepe: sharpen the attention to more tokens in the encoder than this: 4096 in the paper's needle. Default: off."""
    out: Path | None = None
    """File for raw results (JSON lines); an interrupted run continues it."""
    save: Path | None = None
    """Write the table as PREFIX.md, PREFIX.csv and PREFIX.tex, and table 1 and the needle also as PREFIX.png."""


class StreamingOptions(Settings):
    """The cache of `streaming`."""

    sinks: int = Field(default=4, ge=0)
    """streaming: first tokens that stay."""
    recent: int | None = Field(default=None, ge=1)
    """streaming: last tokens that stay. Default: 2,044, less for a small window."""
    streaming_stride: int | None = Field(default=None, ge=1)
    """streaming: tokens read at a time. Default: 2,048, less for a small window."""


class Table1Options(Settings):
    """Which tokens are scored, and how much each reader sees before them."""

    tokens: str = "4096,8192,32768"
    """Tokens of context, rows of each reader; the scored ones are the last of them."""
    decoder_tokens: int = 2048
    """cepe, extensible: tokens in the decoder; those before them are in the encoder, or embeddings."""
    scored: int = Field(default=256, ge=1)
    """Last tokens of a window, which are scored."""
    stride: int = Field(default=256, ge=1)
    """Tokens from one window of a document to the next."""
    each: int | None = Field(default=None, ge=1)
    """Maximum number of windows of a document."""
    sinks: int = Field(default=4, ge=0)
    """streaming: first tokens that stay."""
    recent: int | None = Field(default=None, ge=1)
    """streaming: last tokens that stay. Default: 2,044, less for a small window."""
    strides: str | None = None
    """streaming: tokens read at a time, rows. Default: 2,048, less for a small window."""
    replug_tokens: int = Field(default=3840, ge=1)
    """replug: tokens after each passage; fewer for a small window."""
    replug_chunks: int = Field(default=16, ge=1)
    """replug: maximum number of passages, the nearest ones."""


class Table2Options(Settings):
    """What is read and scored."""

    tokens: int = 2048
    """Tokens of a text in the decoder."""
    query: int = 256
    """The first tokens, with which passages are retrieved; the others are scored."""
    k: str = "0,8,20,50"
    """Passages, rows of each reader."""
    passage_tokens: int = Field(default=256, ge=1)
    """Maximum number of the decoder's tokens in a passage."""
    each: int | None = Field(default=None, ge=1)
    """Maximum number of excerpts of a document."""


class Table3Options(Settings):
    """Demonstrations, and how labels are scored."""

    decoder_shots: str = "2,40"
    """full: demonstrations, rows; cepe and extensible have the first number of them in the decoder."""
    encoder_shots: str = "18,38"
    """cepe, extensible: demonstrations in the encoder, or as embeddings, one each, rows."""
    seeds: str = "42,43,44"
    """Each draws demonstrations and texts; accuracy is over all."""
    template: str = "Text: {text}\nLabel: {label}"
    """A demonstration."""
    score: Literal["length", "likelihood", "calibrated", "calibrated-length"] = "length"
    """A label's log-likelihood, per token of it (length), minus that after the start token alone (calibrated)."""


class Table4Options(StreamingOptions):
    """How much of a text each reader sees, and how answers are decoded."""

    tokens: str = "2048,4096,32768"
    """Tokens of text and answer, rows of each reader; all: the whole text, for cepe and streaming."""
    decoder_tokens: int = Field(default=2048, ge=1)
    """cepe, extensible: tokens in the decoder, the answer included; those before are in the encoder, or embeddings."""
    answer_tokens: int = Field(default=50, ge=1)
    """Maximum number of tokens of an answer to a question."""
    summary_tokens: int = Field(default=1024, ge=1)
    """Maximum number of tokens of a summary."""
    seeds: str = "42,43,44"
    """govreport: each samples a summary; figures are over all."""


class NeedleOptions(StreamingOptions):
    """How long haystacks are, and where the needle is."""

    lengths: str = "1024,2048,4096,8192,16384,32768,65536,131072"
    """Tokens of haystack, question and answer, rows of each reader."""
    depths: int = Field(default=10, ge=2)
    """Places of the needle, evenly from the beginning of a haystack to its end."""
    decoder_tokens: int = Field(default=2048, ge=1)
    """cepe, extensible: tokens in the decoder, the answer included; those before are in the encoder, or embeddings."""
    max_new_tokens: int = Field(default=50, ge=1)
    """Maximum number of tokens of an answer."""


class Table7Options(StreamingOptions):
    """What is in the prompt and in the encoder, and how answers are decoded."""

    k: str = "10,15,20,30,60"
    """Documents, rows of each reader; replug reads at most 30."""
    prompt_documents: int = Field(default=10, ge=0)
    """cepe, extensible: documents, best first, in the decoder."""
    encode: Literal["rest", "all"] = "rest"
    """cepe, extensible: the encoder, or embedder, reads the documents that are not in the decoder, or all."""
    document_tokens: int = Field(default=256, ge=1)
    """cepe, extensible: last tokens of a document that the encoder, or embedder, reads."""
    shots: int = Field(default=2, ge=0)
    """Demonstrations, drawn for each question."""
    seed: int = 0
    """Draws the demonstrations."""
    max_new_tokens: int = Field(default=25, ge=1)
    """Maximum number of tokens of an answer; it ends at a line break."""
    window: int | None = Field(default=None, ge=64)
    """Tokens of prompt and answer, for which documents are cut. Default: the decoder's window."""


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers from a list such as `10,20`.

    Raises:
        ConfigError: they are something else.
    """
    try:
        return list(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        raise ConfigError(f"--{option} must be whole numbers such as 10,20, got {text!r}") from None
