"""Tokenised documents, memory-mapped: token ids, boundaries, domains and splits.

A source is tokenised once into `$RAGX_HOME/documents/<digest of source and tokenizer>/`:

    tokens.bin      token ids, uint16 or uint32, one document after another
    starts.npy      (documents + 1,) int64, start of each document and end of the last
    keys.npy        (documents,) uint64, first bytes of each text's SHA-256, which decide its split
    domains.npy     (documents,) uint16, indices into `domains` of info.json
    info.json
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from ragx.config import DatasetSource
from ragx.errors import CorpusError
from ragx.util.files import durable_folder
from ragx.util.folders import cache_home
from ragx.util.text import without_surrogates
from ragx_train.data.sources import TOKENS, Source, documents, expand
from ragx_train.errors import OutputError
from ragx_train.settings import DocumentSettings

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

Split = Literal["train", "test", "retrieval"]
VERSION = 2
INFO = "info.json"
BATCH_CHARACTERS = 4_000_000
"""Text tokenised at once: enough to keep all cores busy."""


@dataclass(frozen=True)
class Corpus:
    """The documents of all sources."""

    parts: list[NDArray[Any]]
    """Token ids of each source, memory-mapped."""
    part: NDArray[np.int64]
    """(documents,) index into `parts`."""
    starts: NDArray[np.int64]
    """(documents,) offset in that part."""
    lengths: NDArray[np.int64]
    """(documents,) in tokens."""
    keys: NDArray[np.uint64]
    domain: NDArray[np.int64]
    domains: list[str]

    def tokens(self, document: int, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens `start` to `stop` of a document; fewer at its end."""
        first = int(self.starts[document])
        stop = min(stop, int(self.lengths[document]))
        ids: NDArray[np.int64] = self.parts[self.part[document]][first + start : first + stop].astype(np.int64)
        return ids

    def name(self, document: int) -> str:
        """Domain and number of a document, for messages."""
        return f"{self.domains[self.domain[document]]} {document}"

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the texts' keys, lengths and domains, in order."""
        digest = hashlib.sha256(json.dumps(self.domains).encode())
        for column in (self.keys, self.lengths, self.domain):
            digest.update(column.data)
        return digest.hexdigest()

    def in_split(self, split: Split, *, test: float, retrieval: float) -> NDArray[np.int64]:
        """The documents of a split. Equal texts are in the same split."""
        return np.flatnonzero(in_split(self.keys, split, test=test, retrieval=retrieval))

    def of_domains(self, documents: NDArray[np.int64], domains: Sequence[str]) -> NDArray[np.int64]:
        """Those of `documents` whose domain is one of `domains`.

        Raises:
            CorpusError: no document of the corpus has such a domain.
        """
        if unknown := sorted(set(domains) - set(self.domains)):
            raise CorpusError(f"unknown domain {unknown[0]!r}: the documents are of {', '.join(self.domains)}")
        numbers = [self.domains.index(domain) for domain in domains]
        return documents[np.isin(self.domain[documents], numbers)]


def in_split(keys: NDArray[np.uint64], split: Split, *, test: float, retrieval: float) -> NDArray[np.bool_]:
    """Whether the texts with these keys are in a split."""
    position = keys / 2.0**64  # uniform in [0, 1)
    if split == "test":
        return position < test
    if split == "retrieval":
        return (position >= test) & (position < test + retrieval)
    return position >= test + retrieval


def text_key(text: str) -> int:
    """The first 8 bytes of a text's SHA-256 as a number, which decides its split."""
    return int.from_bytes(hashlib.sha256(without_surrogates(text).encode()).digest()[:8], "big")


def open_corpus(settings: DocumentSettings, tokenizer: Tokenizer) -> Corpus:
    """Open the documents of `settings.sources`, tokenising new and changed ones.

    Raises:
        ConfigError: a source does not exist.
        CorpusError: a source cannot be read or has no text.
        OutputError: the tokens cannot be stored.
    """
    sources = [file for source in settings.sources for file in expand(settings.folder, source)]
    folders = [_tokenised(source, tokenizer) for source in sources]
    infos = [json.loads((folder / INFO).read_text(encoding="utf-8")) for folder in folders]
    domains = sorted({domain for info in infos for domain in info["domains"]})
    starts = [np.load(folder / "starts.npy") for folder in folders]
    renumbered = [
        np.array([domains.index(domain) for domain in info["domains"]], dtype=np.int64)[np.load(folder / "domains.npy")]
        for info, folder in zip(infos, folders, strict=True)
    ]
    return Corpus(
        parts=[
            np.memmap(folder / TOKENS, dtype=info["dtype"], mode="r")
            for folder, info in zip(folders, infos, strict=True)
        ],
        part=np.repeat(np.arange(len(folders)), [len(each) - 1 for each in starts]),
        starts=np.concatenate([each[:-1] for each in starts]),
        lengths=np.concatenate([np.diff(each) for each in starts]),
        keys=np.concatenate([np.load(folder / "keys.npy") for folder in folders]),
        domain=np.concatenate(renumbered),
        domains=domains,
    )


def save_excerpt(settings: DocumentSettings, tokenizer: Tokenizer, folder: Path, *, tokens: int) -> int:
    """Write random documents of `settings.sources` as tokens, for a machine that does not have the texts.

    Args:
        settings: the documents.
        tokenizer: of the decoder that will read them.
        folder: created; `sources` may name it in place of the texts.
        tokens: their maximum number.

    Returns:
        The number of tokens written.

    Raises:
        ConfigError, CorpusError, OutputError: as `open_corpus`.
    """
    corpus = open_corpus(settings, tokenizer)
    order = np.random.default_rng(0).permutation(len(corpus.keys))
    chosen = order[np.cumsum(corpus.lengths[order]) <= tokens].tolist()
    if not chosen:
        raise CorpusError(f"{', '.join(map(str, settings.sources))}: the first document is longer than {tokens} tokens")
    excerpt = (
        (corpus.tokens(place, 0, tokens), int(corpus.keys[place]), corpus.domains[corpus.domain[place]])
        for place in chosen
    )
    with durable_folder(folder, OutputError) as draft:
        return _store(draft, excerpt, ", ".join(map(str, settings.sources)), tokenizer)


def _tokenised(source: Source, tokenizer: Tokenizer) -> Path:
    """The folder of a source's tokens. The first process creates it; others wait for it."""
    if isinstance(source.place, Path) and source.place.is_dir():
        if json.loads((source.place / INFO).read_text(encoding="utf-8")).get("vocabulary") != _vocabulary(tokenizer):
            raise CorpusError(f"{source.place} has the tokens of another tokenizer: tokenise the texts again")
        return source.place
    folder = cache_home() / "documents" / _digest(source, tokenizer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            with durable_folder(folder, OutputError) as draft:
                _write(draft, source, tokenizer)
    return folder


def _digest(source: Source, tokenizer: Tokenizer) -> str:
    place, domain = source
    if isinstance(place, DatasetSource):
        identity = place.model_dump_json()
        if Path(place.dataset).is_absolute():
            files = sorted(file for file in Path(place.dataset).rglob("*") if file.is_file())
            identity += "".join(f"\n{_state(file)}" for file in files)
    else:
        identity = _state(place)
    digest = hashlib.sha256(f"{VERSION} {domain} {identity}\n".encode())
    digest.update(tokenizer.backend.to_str().encode())
    return digest.hexdigest()[:32]


def _state(file: Path) -> str:
    status = file.stat()
    return f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"


def _write(folder: Path, source: Source, tokenizer: Tokenizer) -> None:
    name = source.place.name if isinstance(source.place, Path) else source.place.dataset

    def tokenised() -> Iterator[tuple[NDArray[Any], int, str]]:
        with tqdm(desc=f"tokenising {name}", unit=" tokens") as progress:
            for batch in _batches(documents(source)):
                token_ids = tokenizer.plain_ids([text for text, _ in batch])
                for (text, domain), ids in zip(batch, token_ids, strict=True):
                    yield np.array(ids), text_key(text), domain
                    progress.update(len(ids))

    if not _store(folder, tokenised(), str(source.place), tokenizer):
        raise CorpusError(f"{name} has no text")


def _store(folder: Path, tokenised: Iterable[tuple[NDArray[Any], int, str]], source: str, tokenizer: Tokenizer) -> int:
    """Write documents (token ids, key and domain), without empty ones, into `folder`; return the number of tokens."""
    dtype = np.dtype(np.uint16 if tokenizer.backend.get_vocab_size() <= 2**16 else np.uint32)
    starts, keys, domain_numbers = [0], [], []
    domains: dict[str, int] = {}
    with (folder / TOKENS).open("wb") as file:
        for ids, key, domain in tokenised:
            if not len(ids):
                continue
            file.write(ids.astype(dtype).tobytes())
            starts.append(starts[-1] + len(ids))
            keys.append(key)
            domain_numbers.append(domains.setdefault(domain, len(domains)))
    np.save(folder / "starts.npy", np.array(starts, dtype=np.int64))
    np.save(folder / "keys.npy", np.array(keys, dtype=np.uint64))
    np.save(folder / "domains.npy", np.array(domain_numbers, dtype=np.uint16))
    info = {
        "version": VERSION,
        "source": source,
        "dtype": dtype.name,
        "domains": list(domains),
        "vocabulary": _vocabulary(tokenizer),
    }
    (folder / INFO).write_text(json.dumps(info), encoding="utf-8")
    return starts[-1]


def _vocabulary(tokenizer: Tokenizer) -> str:
    """A digest of the tokens and their ids."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.backend.get_vocab().items())).encode()).hexdigest()


def _batches(documents: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document[0])
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
