"""An index that a Ray cluster builds is the one that this process builds, whoever dies on the way."""

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
from tests.helpers.slow_embedders import BrokenEmbedder, SlowEmbedder, another
from tests.helpers.toy_embedders import WordEmbedder, passages

distributed = pytest.importorskip("ragx.distributed")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

TEXTS = [f"snow {number} reflects {number % 7} times" for number in range(1500)]
SETTINGS = IndexSettings(shard_size=600)
"""Three shards, the first two of three pieces each."""


def build(folder: Path, source: object = distributed.Source(WordEmbedder), **values: object) -> None:
    settings = SETTINGS.model_copy(update=values)
    make_shards = partial(distributed.make_shards, source=source)
    build_index(passages(TEXTS), folder, WordEmbedder(), settings, quiet=True, make_shards=make_shards)


def contents(folder: Path) -> dict[str, str]:
    """The checksum of every file but the lexical index's, which tantivy names anew; all are verified first."""
    verify(folder)
    files = read_manifest(folder).files
    return {name: entry.sha256 for name, entry in files.items() if not name.startswith("lexical/")}


def pid_of(left: Path) -> int:
    """Of the process that left this file (`SlowEmbedder`)."""
    return int(left.name.partition("-")[0])


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local") / "index"
    build_index(passages(TEXTS), folder, WordEmbedder(), SETTINGS, quiet=True)
    return folder


def test_every_file_and_the_manifest_are_those_of_the_local_engine(tmp_path: Path, local: Path) -> None:
    build(tmp_path)
    assert contents(tmp_path) == contents(local)
    ours, theirs = (
        read_manifest(folder).model_copy(update={"created": "", "files": {}}) for folder in (tmp_path, local)
    )
    assert ours == theirs
    generation = tmp_path / "gen-0001"
    assert {path.name for path in generation.iterdir()} == {path.name for path in (local / "gen-0001").iterdir()}


@pytest.mark.parametrize("factory", ["HNSW8", "IVF4,Flat", "SQ8"])
def test_other_kinds_of_shard_hold_the_same_passages_and_vectors(tmp_path: Path, local: Path, factory: str) -> None:
    build(tmp_path, faiss=factory)
    ours, theirs = contents(tmp_path), contents(local)
    assert {name for name in ours if ours[name] != theirs[name]} == {
        f"shard-0000{number}/faiss.index" for number in range(3)
    }
    assert [shard.faiss.ntotal for shard in Index.open(tmp_path).shards] == [600, 600, 300]


def test_progress_is_told_until_all_passages_are_embedded(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    make_shards = partial(distributed.make_shards, source=distributed.Source(WordEmbedder))
    build_index(
        passages(TEXTS),
        tmp_path,
        WordEmbedder(),
        SETTINGS,
        quiet=True,
        on_progress=lambda done, total: told.append((done, total)),
        make_shards=make_shards,
    )
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] == (len(TEXTS), len(TEXTS))


def test_a_killed_worker_loses_and_doubles_nothing(
    tmp_path: Path, local: Path, kill_worker: Callable[[int], None]
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    killed: list[int] = []

    def kill() -> None:
        while not (found := list(seen.iterdir())):
            time.sleep(0.02)
        killed.append(pid_of(found[0]))
        kill_worker(killed[0])

    killer = threading.Thread(target=kill)
    killer.start()
    build(tmp_path / "index", distributed.Source(SlowEmbedder, (str(seen), 0.5)))
    killer.join()
    workers = {pid_of(path) for path in seen.iterdir()}
    assert killed
    assert len(workers) > 2  # another took its place
    assert contents(tmp_path / "index") == contents(local)


def test_what_ray_began_the_local_engine_finishes_and_the_reverse(tmp_path: Path, local: Path) -> None:
    class Stop(Exception):
        pass

    def stop_at_second_shard(done: int, total: int) -> None:
        if done > 600:
            raise Stop

    for first, then in [("ray", "local"), ("local", "ray")]:
        folder = tmp_path / first
        ray = partial(distributed.make_shards, source=distributed.Source(WordEmbedder))
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
        assert contents(folder) == contents(local)
        if first == "local":
            assert embedder.encoded == 0
        assert not list((folder / "gen-0001").glob("drafts*"))


def test_a_missing_faiss_index_is_made_without_embedding_again(tmp_path: Path, local: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == total:
            raise Stop

    with pytest.raises(Stop):  # amid the last shard; the first two are whole
        build_index(passages(TEXTS), tmp_path, WordEmbedder(), SETTINGS, quiet=True, on_progress=stop)
    seen = tmp_path.parent / f"{tmp_path.name}-seen"
    seen.mkdir()
    build(tmp_path, distributed.Source(SlowEmbedder, (str(seen), 0.0)), faiss="SQ8")
    assert len(list(seen.iterdir())) == 2  # the last shard's two pieces
    ours, theirs = contents(tmp_path), contents(local)
    assert {name for name in ours if ours[name] != theirs[name]} == {
        f"shard-0000{number}/faiss.index" for number in range(3)
    }


def test_a_workers_mistake_is_the_error_it_would_be_here(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"words on node .* differs from this"):
        build(tmp_path / "a", distributed.Source(another))
    with pytest.raises(ModelError, match="not finite: use another dtype"):
        build(tmp_path / "b", distributed.Source(BrokenEmbedder))
    assert not (tmp_path / "a" / "CURRENT").exists()
    build(tmp_path / "a")  # the next run goes on
    verify(tmp_path / "a")


def test_devices_that_the_cluster_lacks(tmp_path: Path) -> None:
    assert distributed.worker_device(None) == distributed.worker_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="no GPU"):
        distributed.worker_device("cuda")
    with pytest.raises(ConfigError, match="cannot be used"):
        distributed.worker_device("cuda:1")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379"])
def test_an_address_where_nobody_listens_is_one_line_at_once(address: str) -> None:
    code = f"from ragx.distributed import cluster\nwith cluster({address!r}): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert f"ConfigError: no Ray cluster at {address}" in done.stderr
    assert "start one with `ray start --head`, or leave out --address" in done.stderr
