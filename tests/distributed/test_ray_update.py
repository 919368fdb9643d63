"""An update embedded by a Ray cluster is the same as a local one."""

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
from tests.helpers.slow_embedders import BrokenEmbedder, SlowEmbedder, other_embedder
from tests.helpers.small_indexes import assert_same_index
from tests.helpers.toy_embedders import WordEmbedder, passages

distributed = pytest.importorskip("ragx.distributed")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

OLD, NEW = passages([f"snow {n}" for n in range(50)]), passages([f"soil {n}" for n in range(700)])


def test_an_update_is_the_same_and_embeds_only_new_passages(tmp_path: Path) -> None:
    local, remote, seen = (tmp_path / name for name in ("local", "remote", "seen"))
    seen.mkdir()
    for folder in (local, remote):
        build_index(OLD, folder, WordEmbedder(), IndexSettings(shard_size=400), quiet=True)
    ray_embedder = distributed.RayEmbedder(WordEmbedder(), distributed.ModelSource(SlowEmbedder, (str(seen), 0.0)))
    added = [*OLD[:10], *NEW[50:]]
    for folder, embedder in ((local, WordEmbedder()), (remote, ray_embedder)):
        assert update_index(folder, embedder, add=added, quiet=True).added == 650
    assert_same_index(remote, local)
    assert len(list(seen.iterdir())) == 4  # pieces in two shards; the first shard also holds old passages


def test_progress_is_reported_and_questions_are_embedded_here() -> None:
    embedder = distributed.RayEmbedder(WordEmbedder(), distributed.ModelSource(WordEmbedder))
    progress: list[int] = []
    vectors = embedder.encode_passages(NEW, progress.append)
    np.testing.assert_allclose(vectors, WordEmbedder().encode_passages(NEW, lambda _: None), rtol=1e-6)
    assert sorted(progress) == [700 - 2 * 256, 256, 256]
    np.testing.assert_allclose(embedder.encode_question("snow"), WordEmbedder().encode_question("snow"), rtol=1e-6)
    assert embedder.encode_passages([], progress.append).shape == (0, 16)


def test_a_workers_error_changes_nothing(tmp_path: Path) -> None:
    build_index(OLD, tmp_path, WordEmbedder(), IndexSettings(), quiet=True)
    before = read_manifest(tmp_path)
    for load, message in ((other_embedder, "on node .* differs from this"), (BrokenEmbedder, "not finite")):
        embedder = distributed.RayEmbedder(WordEmbedder(), distributed.ModelSource(load))
        with pytest.raises(ModelError, match=message):
            update_index(tmp_path, embedder, add=NEW[50:], quiet=True)
    assert read_manifest(tmp_path) == before
    verify(tmp_path)


def test_the_command_updates_as_locally(tmp_path: Path, run_command: RunCommand) -> None:
    notes, local, ray = (tmp_path / name for name in ("notes", "local", "ray"))
    notes.mkdir()
    (notes / "snow.txt").write_text("Fresh snow reflects light.\n")
    build([notes], local, IndexSettings())
    shutil.copytree(local, ray)
    (notes / "soil.txt").write_text("Dark soil absorbs light.\n")
    for folder in (local, ray):
        assert run_command("index", "update", "--index", folder, "--engine", folder.name)[0] == 0
    # Ray's workers use one thread, which may add in another order
    assert_same_index(ray, local, atol=1e-3)
    assert Index.open(ray).total == 2
