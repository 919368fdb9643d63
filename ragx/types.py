"""The core nouns. Everything that flows through ragx is one of these.

Shape legend used in docstrings across the project:
B questions in the batch, K passages per question, L tokens per passage, M context tokens (K·L without padding),
N decoder tokens, H query heads, G key/value heads, D head dimension, E encoder width, W decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

SearchMethod = Literal["dense", "bm25", "hybrid"]
"""How passages are retrieved: by vectors, by words, or by both, fused by reciprocal rank."""
Effort = Literal["low", "medium", "high"]
"""How much is searched for a question: once; then what the first hits name and lack; and parts of the question too."""
ReaderName = Literal["cepe", "full", "replug", "streaming", "extensible"]
"""How passages are read: encoded and attended to; all in the decoder's prompt; one a prompt, with their answers mixed;
all in a prompt of any length, while the decoder's cache keeps part of it; or as an embedding for every few tokens
before the prompt. See `ragx.reader.registry`."""
BackendName = Literal["auto", "torch", "cpu"]
"""What computes: torch, or compiled graphs on the CPU; auto: the CPU's graphs where there is no GPU."""
AttentionStrategy = Literal["auto", "project", "cached", "latent"]
"""How decoding attends to encoded passages: the cheapest, or one of three exact ways (`ragx_kernels`)."""
Init = Literal["induction", "paper", "released"]
"""How cross-attention starts from the self-attention of its layer. `induction`: the norm before self-attention, which
the encoder's output lacks, is folded into keys and values. `paper`: queries, keys and values as they are, output zero
(A.2). `released`: as the authors' warm-up, the output too. The last two have the norm before the feed-forward network,
which follows cross-attention, as in the authors' code; the paper does not name one."""
CrossAttend = Literal["all", "question"]
EncodingFormat = Literal["bfloat16", "int8"]
"""Number format of passage encodings on disk."""
Finish = Literal["stop", "length", "cancelled", "loop"]
"""Why an answer ended: an end token or stop string, the maximum length, cancellation, or it repeated itself."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: the unit that is embedded, retrieved, encoded and cited.

    `text` is verbatim `document_text[start:end]`, where `document_text` is the NFC-normalised text of the document.
    """

    id: str
    """Unique in its index: `"{document}#{position}"`."""
    document: str
    """Id of the document: a path relative to the corpus root, or the row's own id."""
    title: str
    text: str
    position: int
    """Number of the passage in its document, from 0."""
    start: int
    """Character offset of the first character in the document's text."""
    end: int
    """Character offset after the last character."""
    source: str
    """The file, dataset or dump the document came from."""
    metadata: str = ""
    """Additional data stored with the passage: a JSON object, or nothing."""
    headings: str = ""
    """The headings above it, outermost first, as in "Installation > From source"; its own and the title left out. On a
    line of its own: the header of the table in which it begins."""
    page: int = 0
    """The page on which it begins, from 1; 0 where the document has no pages. Form feeds in it begin new pages."""


def embedded_text(passage: Passage) -> str:
    """The text of a passage that is embedded and indexed: its title and headings, if any, and its text."""
    return " ".join(part for part in (passage.title, passage.headings, passage.text) if part)


class Embedder(Protocol):
    """The interface of an embedder. Passages are compared with questions by inner product."""

    name: str
    fingerprint: str
    """Identifies the weights and the tokenizer: vectors of different fingerprints are not comparable."""
    dimension: int

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        """Vectors (n, d) float32; `on_progress` gets the number of passages just done."""

    def encode_question(self, question: str) -> np.ndarray:
        """A vector (d,) float32."""


@runtime_checkable
class Freeable(Protocol):
    """A model that can do without its memory between two questions."""

    def free(self) -> None:
        """Free it; it is taken again when the model is needed."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved passage. A higher score is better; scores are comparable only within one search."""

    passage: Passage
    score: float
    """The retriever's."""
    rerank_score: float | None = None
    """That of `reranker`; None if none has scored the passage."""
    reranker: str | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """A verbatim span of a retrieved passage that supports (a sentence of) the answer."""

    number: int
    """1 for the first source shown."""
    passage_id: str
    document: str
    title: str
    source: str
    start: int
    """Character offset of the span in the document's text."""
    end: int
    text: str
    """The span itself: `document_text[start:end]`."""
    score: float
    """Share of the answer sentence's words, weighted by rarity, that the span contains: 0 to 1."""
    page: int = 0
    """The page on which the span begins, from 1; 0 where the document has no pages."""
    marks: list[int] = field(default_factory=list)
    """Offsets in the answer at which the number belongs: ends of the sentences that the span supports."""


def place(found: Passage | Citation) -> str:
    """Where it stands in its document: "page 3", "pages 3-4", or "characters 120-460" where there are no pages."""
    if not found.page:
        return f"characters {found.start}-{found.end}"
    last = found.page + found.text.count("\f")
    return f"page {found.page}" if last == found.page else f"pages {found.page}-{last}"


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock seconds of one question, model loading excluded, and decoding speed."""

    retrieve: float
    encode: float
    first_token: float
    """From the question to the first token of the answer, retrieval and encoding included."""
    total: float
    tokens_per_second: float
    """Decoding speed after the first token."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation that came before a question."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A decoded token and the natural logarithm of its probability."""

    token: str
    """Its text; `�` stands for bytes that are no character alone."""
    logprob: float
    top: list[tuple[str, float]]
    """The most likely tokens in its place, best first, as requested."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What `RAG.ask` returns."""

    text: str
    citations: list[Citation]
    hits: list[Hit]
    timings: Timings
    attention_shares: list[float] | None = None
    """Each hit's share of the cross-attention. They sum to 1, or to less if examples or earlier turns were encoded too;
    None unless requested from a reader that attends."""
    notes: list[str] = field(default_factory=list)
    """One line each: notes for the user (fewer passages than requested, a truncated prompt, …)."""
    finish: Finish = "stop"
    prompt_tokens: int = 0
    """Tokens of the decoder's prompt (N)."""
    answer_tokens: int = 0
    """Decoded tokens, including the one that ends the answer."""
    context_tokens: int = 0
    """Passage tokens that the decoder attended to outside its prompt (M)."""
    logprobs: list[TokenLogprob] | None = None
    """Each token of the text; None unless `SamplingParams.top_logprobs` asks for them."""
    likelihood: float | None = None
    """How likely one of the hits holds the answer, by a calibrated reranker; None without one."""
    refused: bool = False
    """Whether the text says that no passage holds the answer, because `likelihood` is below `refuse_below`."""

    @property
    def marks(self) -> list[tuple[int, int]]:
        """Offsets in the text, ascending, and the citations whose numbers belong there."""
        return sorted((at, citation.number) for citation in self.citations for at in citation.marks)

    @property
    def marked_text(self) -> str:
        """The text with `[1]` after each sentence that the first citation supports, and so on."""
        pieces, start = [], 0
        for at, number in self.marks:
            pieces += [self.text[start:at], f" [{number}]"]
            start = at
        return "".join([*pieces, self.text[start:]])

    @property
    def supported(self) -> bool:
        """Whether a passage supports the text, or part of it."""
        return bool(self.citations)
