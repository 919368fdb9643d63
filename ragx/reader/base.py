"""Reader: the interface that turns passages and a question into a stream of text."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from ragx.config import SamplingParams
from ragx.engine.backend import decoder_of
from ragx.engine.batching import BatchDecoder
from ragx.engine.decoding import AnswerStream
from ragx.engine.json_constraint import JsonConstraint
from ragx.engine.sampling import Sampler
from ragx.errors import ConfigError
from ragx.reader.prompt import Prompt, build_prompt, count_question_tokens, question_fits
from ragx.reader.task import ANSWER, Task
from ragx.types import Finish, Message, Passage, ReaderName, TokenLogprob

if TYPE_CHECKING:
    from ragx.cepe.store import OnEncoded
    from ragx.engine.attention_sinks import AttentionSinks
    from ragx.engine.backend import ContextLike, ReaderModel
    from ragx.engine.mixture import Mixture
    from ragx.engine.prefix import Prefix
    from ragx.util.tokenization import Tokenizer

SHORTEST_ANSWER = 64
"""Tokens that even the longest question leaves the answer."""


@dataclass(frozen=True)
class PreparedPrompt:
    """What a reader decodes from: the prompt, and the encoded passages it attends to."""

    prompt: Prompt
    context: ContextLike | None
    notes: list[str] = field(default_factory=list)
    layout: Mixture | AttentionSinks | Prefix | None = None
    """How the decoder reads the prompt, unless as one sequence whose keys and values are all kept; or what before."""
    first_encoded: int = 0
    """The passage with which the context begins; those before it are in the prompt alone."""

    @property
    def context_tokens(self) -> int:
        """Passage tokens that the decoder attends to outside its prompt."""
        if self.context is not None:
            return self.context.tokens
        return getattr(self.layout, "tokens", 0)


class TextStream(Protocol):
    """The text of an answer, piece by piece, as it is decoded."""

    tokens: int
    """Number of tokens decoded so far."""
    prompt_tokens: int | None
    """Tokens of the prompt, where the model counts them itself."""
    finish: Finish
    """Why the answer ended."""

    @property
    def logprobs(self) -> list[TokenLogprob] | None:
        """Each token decoded so far but the one that ends the answer; None if they were not asked for."""

    def __iter__(self) -> Iterator[str]: ...

    def __next__(self) -> str: ...

    def close(self) -> None:
        """End the answer."""


class Reader(ABC):
    """Reads passages and answers a question. All readers accept the same passages and questions."""

    within: float = math.inf
    """The default of `ReaderOptions.within`."""

    @property
    @abstractmethod
    def decoder_window(self) -> int:
        """Maximum number of tokens of prompt and answer."""

    def encoded_limit(self) -> int | None:
        """Tokens of passages beside its prompt that memory holds; None: there are none, or any number."""
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """What tells this model's answers from those of another."""

    @abstractmethod
    def reserve(self, size: int) -> int:
        """Prepare to decode `size` answers at once; returns how many can be, which may be fewer."""

    @abstractmethod
    def fits(self, question: str, *, answer: int) -> bool:
        """Whether the window holds the question and an answer of so many tokens."""

    @abstractmethod
    def prepare(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        prompt_passages: int,
        sampling: SamplingParams,
        history: Sequence[Message] = (),
        scores: Sequence[float] | None = None,
        task: Task = ANSWER,
        on_encoded: OnEncoded | None = None,
    ) -> PreparedPrompt:
        """Build the prompt and encode the passages to attend to. `passages` come best first.

        `scores` are those of the search, one a passage; None: the passages are equally good. `task` says what to do.
        `on_encoded` is called as passages are encoded; an error that it raises ends the work.

        Raises:
            ConfigError: the question does not fit into the decoder's window.
        """

    @abstractmethod
    def stream(
        self, prepared: PreparedPrompt, sampling: SamplingParams, cancel: threading.Event | None = None
    ) -> TextStream:
        """Decode the answer; yields its text in pieces until it ends.

        It has at most `sampling.max_new_tokens` tokens, and no more than the prompt leaves of the decoder's window.
        Setting `cancel`, or closing the stream, ends it before the next token.

        Raises:
            ConfigError: `sampling.json_schema` is no JSON schema, or one that cannot be enforced; or the model cannot
                follow a schema or tell probabilities.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop decoding; the reader cannot be used afterwards."""

    def decode(self, prepared: PreparedPrompt, sampling: SamplingParams) -> str:
        """Decode the whole answer; its text without surrounding white space."""
        return "".join(self.stream(prepared, sampling)).strip()


class DecoderReader(Reader):
    """Reads with a decoder on this machine."""

    torch_only: ClassVar[bool] = False
    """Whether the CPU backend cannot decode for this reader."""

    def __init__(self, model: ReaderModel, tokenizer: Tokenizer, batch: BatchDecoder | None = None) -> None:
        """`batch` decodes the answers of all readers that share it; None: this reader's, one after another."""
        self.model, self.tokenizer = model, tokenizer
        end_of_turn = tokenizer.eos_token_id
        self.ends = model.end_tokens | (set() if end_of_turn is None else {end_of_turn})
        """Tokens that end an answer: the model's own, and the chat template's end of turn (the tokenizer's eos)."""
        self.batch = batch or BatchDecoder(decoder_of(model), self.ends)

    @property
    def decoder_window(self) -> int:
        return self.model.window

    def fingerprint(self) -> str:
        return self.model.weights_digest()

    def reserve(self, size: int) -> int:
        size = min(size, self.batch.decoder.batch_limit or size)
        self.batch.size = max(self.batch.size, size)  # another queue may need more
        return size

    def fits(self, question: str, *, answer: int) -> bool:
        return question_fits(self.tokenizer, question, max_tokens=self.model.window - answer)

    def close(self) -> None:
        self.batch.close()

    def stream(
        self, prepared: PreparedPrompt, sampling: SamplingParams, cancel: threading.Event | None = None
    ) -> AnswerStream:
        most = min(sampling.max_new_tokens, self.room(prepared))
        sampling = sampling.model_copy(update={"max_new_tokens": most})
        schema = sampling.json_schema
        sampler = Sampler(sampling, None if schema is None else JsonConstraint(schema, self.tokenizer, self.ends))
        state = prepared.layout or prepared.context
        ids = self.batch.generate(prepared.prompt.ids, state, sampling, cancel or threading.Event(), sampler)
        return AnswerStream(ids, self.ends, self.tokenizer, sampler)

    def room(self, prepared: PreparedPrompt) -> int:
        """Tokens that the prompt leaves the answer."""
        return self.model.window - len(prepared.prompt.ids)

    def _prompt(
        self,
        question: str,
        passages: Sequence[Passage],
        sampling: SamplingParams,
        history: Sequence[Message],
        task: Task,
    ) -> tuple[Prompt, list[str]]:
        """The prompt, and notes if passages were left out of it or it leaves less room than the answer may take.

        Passages leave the answer the tokens it may take, up to half of the window; a long question leaves it the rest.
        """
        window, wanted = self.model.window, sampling.max_new_tokens
        answer = answer_room(window, count_question_tokens(self.tokenizer, question, history, task), wanted)
        prompt = build_prompt(
            self.tokenizer, question, passages, max_tokens=window - answer, history=history, task=task
        )
        return prompt, window_notes(window, prompt.passages, len(passages), window - len(prompt.ids), wanted)


def choose_reader(readers: Mapping[ReaderName, Reader], name: ReaderName | None) -> Reader:
    """The reader of this name; None: the first, which is the model's own.

    Raises:
        ConfigError: the model cannot be read with in this way.
    """
    for each, reader in readers.items():
        if name in (None, each):
            return reader
    names = " or ".join(readers)
    if name == "extensible":
        needed = "a model of `ragx train extensible`"
    else:
        needed = "the torch backend (--backend torch)" if "cepe" in readers else "a model on this machine"
    raise ConfigError(f"reader: this model reads as {names}; {name} needs {needed}")


def answer_room(window: int, question_tokens: int, wanted: int) -> int:
    """Tokens of the window that passages leave the answer: those it may take, up to half of the window.

    A long question leaves it the rest, but `SHORTEST_ANSWER`.
    """
    return min(wanted, max(min(window // 2, window - question_tokens), SHORTEST_ANSWER))


def window_notes(window: int, held: int, meant: int, left: int, wanted: int) -> list[str]:
    """Notes if passages meant for the prompt were left out of it, or less is left than the answer may take."""
    notes = []
    if held < meant:
        count = f"{held} of the {meant} passages" if held else "none of the passages"
        notes.append(f"the decoder's window of {window} tokens holds {count} meant for the prompt")
    if wanted > left:
        notes.append(f"the decoder's window of {window} tokens leaves {left} for the answer")
    return notes
