"""Notes, their passages in an index, and an embedder without a model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ragx.config import IndexSettings
from ragx.index import Index, read_manifest, verify
from ragx.index.manifest import SOURCES, FileEntry, write_manifest
from ragx.indexing.build import build
from ragx.types import Passage
from ragx.util.files import sha256

TWO_WORDS = IndexSettings.model_validate({"chunking": {"size": 2}, "shard_size": 4})


class LengthEmbedder:
    """The vector of a text is its numbers of words and characters; `embedded` lists the ids of embedded passages."""

    name = "lengths"
    fingerprint = "l" * 64
    dimension = 2
    tokenizer = None
    window = None

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        self.embedded += [passage.id for passage in passages]
        return np.array([self.encode_question(passage.text) for passage in passages], np.float32)

    def encode_question(self, question: str) -> np.ndarray:
        return np.array([len(question.split()), len(question)], np.float32)


def write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        os.utime(folder / name, (0, 0))  # as old as when the same text was written before


def rows(*pairs: tuple[str, object]) -> str:
    """Lines of a .jsonl file, each with an id and a text."""
    return "".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in pairs)


def index_notes(corpus: Path, folder: Path) -> Path:
    """An index of passages of two words."""
    build([corpus], folder, TWO_WORDS)
    return folder


def passages_in(folder: Path) -> dict[str, Passage]:
    verify(folder)
    index = Index.open(folder)
    return {passage.id: passage for passage in index.passages(index.rows().tolist())}


def generation(folder: Path) -> Path:
    return folder / (folder / "CURRENT").read_text().strip()


def record(folder: Path, data: bytes | None) -> None:
    """Replace `sources.jsonl`; None removes it, as in indexes of formats without records."""
    path = generation(folder) / SOURCES
    path.unlink(missing_ok=True)
    manifest = read_manifest(folder)
    files = {name: entry for name, entry in manifest.files.items() if name != SOURCES}
    if data is not None:
        path.write_bytes(data)
        files[SOURCES] = FileEntry(size=len(data), sha256=sha256(path))
    write_manifest(manifest.model_copy(update={"files": files}), generation(folder))
