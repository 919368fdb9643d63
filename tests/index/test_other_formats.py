"""Indexes of other format versions are refused until they are rebuilt or removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ragx.config import IndexSettings, Search
from ragx.errors import IndexFolderError
from ragx.index import (
    Index,
    build_index,
    collect_garbage,
    compact_index,
    read_manifest,
    remove,
    repair_index,
    update_index,
    verify,
)
from ragx.index.maintain import publish_search
from ragx.index.manifest import FORMAT
from ragx.types import Passage
from tests.helpers.toy_embedders import WordEmbedder, passage, passages

ALL = passages([f"snow {n} reflects" for n in range(3)])


def embedder() -> WordEmbedder:
    return WordEmbedder(dimension=4)


def build(folder: Path, passages: list[Passage], embedder: WordEmbedder) -> None:
    build_index(passages, folder, embedder, IndexSettings(), quiet=True)


def passages_of(folder: Path) -> list[Passage]:
    verify(folder)
    index = Index.open(folder)
    return list(index.passages(index.rows().tolist()))


def set_format(generation: Path, version: object) -> None:
    path = generation / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": version}))


USES: list[Callable[[Path], object]] = [
    Index.open,
    verify,
    read_manifest,
    lambda folder: update_index(folder, embedder(), add=[passage(7, "soil")], quiet=True),
    lambda folder: update_index(folder, delete=["doc0#0"], quiet=True),
    lambda folder: compact_index(folder, quiet=True),
    lambda folder: collect_garbage(folder, quiet=True),
    lambda folder: repair_index(folder, quiet=True),
    lambda folder: publish_search(folder, Search()),
]


@pytest.mark.parametrize("other", [0, FORMAT - 1, FORMAT + 1, -1, 10**30, "3", None, [2]])
def test_other_versions_are_refused_until_rebuilt(tmp_path: Path, other: object) -> None:
    folder = tmp_path / "index"
    build(folder, ALL, embedder())
    set_format(folder / "gen-0001", other)
    for use in USES:
        with pytest.raises(IndexFolderError, match="has format version"):
            use(folder)
    assert (folder / "CURRENT").read_text() == "gen-0001\n"
    build(folder, ALL, embedder())
    assert passages_of(folder) == ALL


def test_an_index_of_another_version_can_be_removed(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build(folder, ALL, embedder())
    set_format(folder / "gen-0001", FORMAT + 1)
    remove(folder)
    assert not folder.exists()


def test_an_interrupted_build_of_another_version_starts_over(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build(folder, ALL, embedder())
    (folder / "gen-0001").rename(folder / "gen-building")
    (folder / "CURRENT").unlink()
    set_format(folder / "gen-building", FORMAT - 1)
    counting = embedder()
    build(folder, ALL, counting)
    assert counting.encoded == len(ALL)
    assert passages_of(folder) == ALL
