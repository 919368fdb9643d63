"""A Ray cluster builds the same index as this process, even if workers die."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ragx.config import IndexSettings
from ragx.errors import ConfigError, ModelError
from ragx.index import Index, build_index, read_manifest, verify
from tests.helpers.slow_embedders import BrokenEmbedder, SlowEmbedder, other_embedder
from tests.helpers.small_indexes import assert_same_index
from tests.helpers.toy_embedders import WordEmbedder, passages

distributed = pytest.importorskip("ragx.distributed")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

TEXTS = [f"snow {number} reflects {number % 7} times" for number in range(1500)]
SETTINGS = IndexSettings(shard_size=600)
"""Three shards; the first two have three pieces each."""


def build(folder: Path, source: object = distributed.ModelSource(WordEmbedder), **values: object) -> None:
    settings = SETTINGS.model_copy(update=values)
    make_shards = partial(distributed.make_shards, source=source)
    build_index(passages(TEXTS), folder, WordEmbedder(), settings, quiet=True, make_shards=make_shards)


def pid_of(path: Path) -> int:
    """The process that created a file of `SlowEmbedder`."""
    return int(path.name.partition("-")[0])


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local") / "index"
    build_index(passages(TEXTS), folder, WordEmbedder(), SETTINGS, quiet=True)
    return folder


def test_the_index_is_the_same_as_a_local_one(tmp_path: Path, local: Path) -> None:
    build(tmp_path)
    assert_same_index(tmp_path, local)
    remote_manifest, local_manifest = (
        read_manifest(folder).model_copy(update={"created": "", "files": {}}) for folder in (tmp_path, local)
    )
    assert remote_manifest == local_manifest
    generation = tmp_path / "gen-0001"
    assert {path.name for path in generation.iterdir()} == {path.name for path in (local / "gen-0001").iterdir()}


@pytest.mark.parametrize(
    ("factory", "kind"), [("HNSW8", "IndexHNSWFlat"), ("IVF4,Flat", "IndexIVFFlat"), ("SQ8", "IndexScalarQuantizer")]
)
def test_other_kinds_of_faiss_index_have_the_same_passages_and_vectors(
    tmp_path: Path, local: Path, factory: str, kind: str
) -> None:
    build(tmp_path, faiss=factory)
    assert_same_index(tmp_path, local)
    indexes = [shard.faiss for shard in Index.open(tmp_path).shards]
    assert {type(index).__name__ for index in indexes} == {kind}
    assert [index.ntotal for index in indexes] == [600, 600, 300]


def test_progress_is_reported_until_all_passages_are_embedded(tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    make_shards = partial(distributed.make_shards, source=distributed.ModelSource(WordEmbedder))
    build_index(
        passages(TEXTS),
        tmp_path,
        WordEmbedder(),
        SETTINGS,
        quiet=True,
        on_progress=lambda done, total: progress.append((done, total)),
        make_shards=make_shards,
    )
    assert progress == sorted(progress)
    assert len(progress) > 3
    assert progress[-1] == (len(TEXTS), len(TEXTS))


def test_a_killed_worker_causes_no_loss_or_duplicates(
    tmp_path: Path, local: Path, kill_worker: Callable[[int], None]
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    killed: list[int] = []

    def kill() -> None:
        while not (paths := list(seen.iterdir())):
            time.sleep(0.02)
        killed.append(pid_of(paths[0]))
        kill_worker(killed[0])

    killer = threading.Thread(target=kill)
    killer.start()
    build(tmp_path / "index", distributed.ModelSource(SlowEmbedder, (str(seen), 0.5)))
    killer.join()
    workers = {pid_of(path) for path in seen.iterdir()}
    assert killed
    assert len(workers) > 2  # a new worker replaced it
    assert_same_index(tmp_path / "index", local)


def test_local_and_ray_builds_can_continue_each_other(tmp_path: Path, local: Path) -> None:
    class Stop(Exception):
        pass

    def stop_at_second_shard(done: int, total: int) -> None:
        if done > 600:
            raise Stop

    for first, then in [("ray", "local"), ("local", "ray")]:
        folder = tmp_path / first
        ray = partial(distributed.make_shards, source=distributed.ModelSource(WordEmbedder))
        with pytest.raises(Stop):
            build_index(
                passages(TEXTS),
                folder,
                WordEmbedder(),
                SETTINGS,
                quiet=True,
                on_progress=stop_at_second_shard,
                make_shards=ray if first == "ray" else None,
            )
        embedder = WordEmbedder()
        build_index(passages(TEXTS), folder, embedder, SETTINGS, quiet=True, make_shards=ray if then == "ray" else None)
        assert_same_index(folder, local)
        if first == "local":
            assert embedder.encoded == 0
        assert not list((folder / "gen-0001").glob("drafts*"))


def test_a_missing_faiss_index_is_built_without_embedding_again(tmp_path: Path, local: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == total:
            raise Stop

    with pytest.raises(Stop):  # within the last shard; the first two are complete
        build_index(passages(TEXTS), tmp_path, WordEmbedder(), SETTINGS, quiet=True, on_progress=stop)
    seen = tmp_path.parent / f"{tmp_path.name}-seen"
    seen.mkdir()
    build(tmp_path, distributed.ModelSource(SlowEmbedder, (str(seen), 0.0)), faiss="SQ8")
    assert len(list(seen.iterdir())) == 2  # the last shard's two pieces
    assert_same_index(tmp_path, local)


def test_a_workers_error_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"on node .* differs from this"):
        build(tmp_path / "a", distributed.ModelSource(other_embedder))
    with pytest.raises(ModelError, match="not finite"):
        build(tmp_path / "b", distributed.ModelSource(BrokenEmbedder))
    assert not (tmp_path / "a" / "CURRENT").exists()
    build(tmp_path / "a")  # the next run continues
    verify(tmp_path / "a")


def test_devices_that_the_cluster_lacks_are_refused() -> None:
    assert distributed.worker_device(None) == distributed.worker_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="no GPU"):
        distributed.worker_device("cuda")
    with pytest.raises(ConfigError, match="cannot be used"):
        distributed.worker_device("cuda:1")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379"])
def test_an_unreachable_address_is_reported_at_once(address: str) -> None:
    code = f"from ragx.distributed import cluster\nwith cluster({address!r}): pass"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert f"ConfigError: no Ray cluster at {address}" in process.stderr
