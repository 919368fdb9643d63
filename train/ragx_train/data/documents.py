"""Tokenised documents, mapped into memory: flat token ids, where documents begin, their domains and their splits.

A source is tokenised once into `$RAGX_HOME/documents/<digest of source and tokenizer>/`:

    tokens.bin      token ids, uint16 or uint32, one document after another
    starts.npy      (documents + 1,) int64, where each begins and the last one ends
    keys.npy        (documents,) uint64, the first bytes of the SHA-256 of each text: they decide its split
    domains.npy     (documents,) uint16, indices into `domains` of info.json
    info.json
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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
from ragx.util.folders import cache_home
from ragx.util.text import without_surrogates
from ragx.util.tokenization import plain_ids
from ragx_train.data.sources import Source, documents, expand
from ragx_train.settings import DocumentSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Split = Literal["train", "test", "retrieval"]
VERSION = 2
BATCH_CHARACTERS = 4_000_000
"""Texts tokenised at once: enough of them to keep all cores busy, few enough to be held."""


@dataclass(frozen=True)
class Corpus:
    """The documents of all sources."""

    parts: list[NDArray[Any]]
    """Token ids of each source, mapped into memory."""
    part: NDArray[np.int64]
    """(documents,) which of `parts` holds a document."""
    starts: NDArray[np.int64]
    """(documents,) where in that part it begins."""
    lengths: NDArray[np.int64]
    """(documents,) in tokens."""
    keys: NDArray[np.uint64]
    domain: NDArray[np.int64]
    domains: list[str]

    def tokens(self, document: int, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens `start` to `stop` of a document, as far as it has them."""
        first = int(self.starts[document])
        stop = min(stop, int(self.lengths[document]))
        found: NDArray[np.int64] = self.parts[self.part[document]][first + start : first + stop].astype(np.int64)
        return found

    def name(self, document: int) -> str:
        """For messages: the domain, and the number among all documents."""
        return f"{self.domains[self.domain[document]]} {document}"

    def fingerprint(self) -> str:
        """SHA-256 (hex) of what sequences are cut from: the texts' keys, lengths and domains, in their order."""
        digest = hashlib.sha256(json.dumps(self.domains).encode())
        for column in (self.keys, self.lengths, self.domain):
            digest.update(column.data)
        return digest.hexdigest()

    def in_split(self, split: Split, *, test: float, retrieval: float) -> NDArray[np.int64]:
        """The documents of a split. Texts that are equal are always in the same one."""
        return np.flatnonzero(in_split(self.keys, split, test=test, retrieval=retrieval))

    def of_domains(self, chosen: NDArray[np.int64], domains: Sequence[str]) -> NDArray[np.int64]:
        """Those of the `chosen` documents that are of these domains.

        Raises:
            CorpusError: there is no such domain.
        """
        if unknown := sorted(set(domains) - set(self.domains)):
            raise CorpusError(f"no document is of the domain {unknown[0]!r}; there are {', '.join(self.domains)}")
        wanted = [self.domains.index(domain) for domain in domains]
        return chosen[np.isin(self.domain[chosen], wanted)]


def in_split(keys: NDArray[np.uint64], split: Split, *, test: float, retrieval: float) -> NDArray[np.bool_]:
    """Whether the texts with these keys are of a split."""
    place = keys / 2.0**64  # uniform in [0, 1)
    if split == "test":
        return place < test
    if split == "retrieval":
        return (place >= test) & (place < test + retrieval)
    return place >= test + retrieval


def text_key(text: str) -> int:
    """The first 8 bytes of a text's SHA-256 as a number: what decides its split."""
    return int.from_bytes(hashlib.sha256(without_surrogates(text).encode()).digest()[:8], "big")


def open_corpus(settings: DocumentSettings, tokenizer: PreTrainedTokenizerFast) -> Corpus:
    """Open the documents of `settings.sources`, tokenising those that have not been before.

    Raises:
        ConfigError: a source is not there.
        CorpusError: a source cannot be read, or none holds a document.
    """
    sources = [each for source in settings.sources for each in expand(settings.folder, source)]
    folders = [_tokenised(source, tokenizer) for source in sources]
    infos = [json.loads((folder / "info.json").read_text(encoding="utf-8")) for folder in folders]
    domains = sorted({domain for info in infos for domain in info["domains"]})
    starts = [np.load(folder / "starts.npy") for folder in folders]
    renumbered = [
        np.array([domains.index(domain) for domain in info["domains"]], dtype=np.int64)[np.load(folder / "domains.npy")]
        for info, folder in zip(infos, folders, strict=True)
    ]
    return Corpus(
        parts=[
            np.memmap(folder / "tokens.bin", dtype=info["dtype"], mode="r")
            for folder, info in zip(folders, infos, strict=True)
        ],
        part=np.repeat(np.arange(len(folders)), [len(each) - 1 for each in starts]),
        starts=np.concatenate([each[:-1] for each in starts]),
        lengths=np.concatenate([np.diff(each) for each in starts]),
        keys=np.concatenate([np.load(folder / "keys.npy") for folder in folders]),
        domain=np.concatenate(renumbered),
        domains=domains,
    )


def _tokenised(source: Source, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The folder of a source's documents; whoever comes first makes it, others wait."""
    folder = cache_home() / "documents" / _digest(source, tokenizer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            draft = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(draft, ignore_errors=True)  # of a process that died
            draft.mkdir()
            _write(draft, source, tokenizer)
            for file in draft.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            draft.rename(folder)
    return folder


def _digest(source: Source, tokenizer: PreTrainedTokenizerFast) -> str:
    place, domain = source
    if isinstance(place, DatasetSource):
        said = place.model_dump_json()
        if Path(place.dataset).is_absolute():
            said += "".join(f"\n{_state(file)}" for file in sorted(Path(place.dataset).rglob("*")) if file.is_file())
    else:
        said = _state(place)
    digest = hashlib.sha256(f"{VERSION} {domain} {said}\n".encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    return digest.hexdigest()[:32]


def _state(file: Path) -> str:
    state = file.stat()
    return f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"


def _write(folder: Path, source: Source, tokenizer: PreTrainedTokenizerFast) -> None:
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    starts, keys, domain = [0], [], []
    domains: dict[str, int] = {}
    name = source.place.name if isinstance(source.place, Path) else source.place.dataset
    with (folder / "tokens.bin").open("wb") as file, tqdm(desc=f"tokenising {name}", unit=" tokens") as progress:
        for batch in _batches(documents(source)):
            for (text, of), ids in zip(batch, plain_ids(tokenizer, [text for text, _ in batch]), strict=True):
                if not ids:
                    continue
                file.write(np.array(ids, dtype=dtype).tobytes())
                starts.append(starts[-1] + len(ids))
                keys.append(text_key(text))
                domain.append(domains.setdefault(of, len(domains)))
            progress.update(starts[-1] - progress.n)
    if not keys:
        raise CorpusError(f"{name} holds no text")
    np.save(folder / "starts.npy", np.array(starts, dtype=np.int64))
    np.save(folder / "keys.npy", np.array(keys, dtype=np.uint64))
    np.save(folder / "domains.npy", np.array(domain, dtype=np.uint16))
    info = {"version": VERSION, "source": str(source.place), "dtype": dtype.name, "domains": list(domains)}
    (folder / "info.json").write_text(json.dumps(info), encoding="utf-8")


def _batches(texts: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    characters = 0
    for each in texts:
        batch.append(each)
        characters += len(each[0])
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
