"""An update whose passages the workers of a cluster embed is the one that this process makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ragx.config import IndexSettings
from ragx.errors import ModelError
from ragx.index import Index, build_index, read_manifest, update_index, verify
from ragx.indexing.build import build
from tests.helpers.command import RunCommand
from tests.helpers.slow_embedders import BrokenEmbedder, SlowEmbedder, another
from tests.helpers.toy_embedders import WordEmbedder, passages

distributed = pytest.importorskip("ragx.distributed")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

OLD, NEW = passages([f"snow {n}" for n in range(50)]), passages([f"soil {n}" for n in range(700)])


def contents(folder: Path) -> dict[str, str]:
    """The checksum of every file but the lexical index's, which tantivy names anew; all are verified first."""
    verify(folder)
    files = read_manifest(folder).files
    return {name: entry.sha256 for name, entry in files.items() if not name.startswith("lexical/")}


def test_every_file_is_that_of_a_local_update_and_only_new_passages_are_embedded(tmp_path: Path) -> None:
    here, there, seen = (tmp_path / name for name in ("here", "there", "seen"))
    seen.mkdir()
    for folder in (here, there):
        build_index(OLD, folder, WordEmbedder(), IndexSettings(shard_size=400), quiet=True)
    spread = distributed.RayEmbedder(WordEmbedder(), distributed.Source(SlowEmbedder, (str(seen), 0.0)))
    added = [*OLD[:10], *NEW[50:]]
    for folder, embedder in ((here, WordEmbedder()), (there, spread)):
        assert update_index(folder, embedder, add=added, quiet=True).added == 650
    assert contents(there) == contents(here)
    assert len(list(seen.iterdir())) == 4  # pieces: two shards, the first of them with what was there


def test_progress_is_told_and_questions_are_embedded_here() -> None:
    embedder = distributed.RayEmbedder(WordEmbedder(), distributed.Source(WordEmbedder))
    told: list[int] = []
    vectors = embedder.encode_passages(NEW, told.append)
    assert vectors.tolist() == WordEmbedder().encode_passages(NEW, lambda _: None).tolist()
    assert sorted(told) == [700 - 2 * 256, 256, 256]
    assert embedder.encode_question("snow").tolist() == WordEmbedder().encode_question("snow").tolist()
    assert embedder.encode_passages([], told.append).shape == (0, 16)


def test_a_workers_mistake_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    build_index(OLD, tmp_path, WordEmbedder(), IndexSettings(), quiet=True)
    before = contents(tmp_path)
    for load, message in ((another, "words on node .* differs from this"), (BrokenEmbedder, "not finite")):
        embedder = distributed.RayEmbedder(WordEmbedder(), distributed.Source(load))
        with pytest.raises(ModelError, match=message):
            update_index(tmp_path, embedder, add=NEW[50:], quiet=True)
    assert contents(tmp_path) == before


def test_the_command_updates_as_with_the_local_engine(tmp_path: Path, run_command: RunCommand) -> None:
    notes, local, ray = (tmp_path / name for name in ("notes", "local", "ray"))
    notes.mkdir()
    (notes / "snow.txt").write_text("Fresh snow reflects light.\n")
    build([notes], local, IndexSettings())
    shutil.copytree(local, ray)
    (notes / "soil.txt").write_text("Dark soil absorbs light.\n")
    for folder in (local, ray):
        assert run_command("index", "update", "--index", folder, "--engine", folder.name)[0] == 0
    ours, theirs = Index.open(ray), Index.open(local)
    assert list(ours.live_passages()) == list(theirs.live_passages())
    assert ours.total == 2
    for mine, other in zip(ours.shards, theirs.shards, strict=True):
        # Ray's workers compute with one thread, which may add in another order
        np.testing.assert_allclose(mine.vectors, other.vectors, atol=1e-3)
