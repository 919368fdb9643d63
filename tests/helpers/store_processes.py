"""Checks that test_store_sharing.py runs in processes of their own: a shared store, killed and failing writers.

Takes a working folder as its argument. Prints a JSON object with the exit code and stderr of each check; a failed check
writes a traceback.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.helpers.store_data import is_stored, open_store, put, repeated, size


def share_small_store(folder: Path) -> None:
    """Three processes read and write a store that is too small for them."""
    max_bytes = 3_200_000

    def work(seed: int) -> None:
        store, rng, hits = open_store(folder, max_bytes), random.Random(seed), 0
        for _ in range(80):
            passages = [repeated(n, 20) for n in rng.choices(range(1500), weights=range(1500, 0, -1), k=30)]
            stored = is_stored(store, passages)
            hits += sum(stored)
            put(store, [tokens for tokens, hit in zip(passages, stored, strict=True) if not hit])
        assert hits > 200, hits
        assert store._records.writable
        assert store.stats.dropped == 0, store.stats

    children = [_fork(lambda seed=seed: work(seed)) for seed in range(3)]  # type: ignore[misc]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert size(folder) <= max_bytes


def encode_same_passages(folder: Path) -> None:
    """Two processes store the same passages at the same time."""
    passages = [repeated(n, 20) for n in range(400)]
    children = [_fork(lambda: put(open_store(folder), passages)) for _ in range(2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert all(is_stored(open_store(folder), passages))
    assert size(folder) <= 400 * 3000 + 200_000


def killed(folder: Path) -> None:
    """After kill -9 at a random time, every record stored before is intact."""
    rng = random.Random(0)
    max_bytes, kept = 1_200_000, 100
    stored: list[int] = []
    for attempt in range(40):
        reading, writing = os.pipe()

        def write(first: int = attempt * 100_000, pipe: int = writing) -> None:
            store = open_store(folder, max_bytes)
            for n in range(first, first + 100_000):
                put(store, [repeated(n, 20)])
                os.write(pipe, n.to_bytes(8, "little"))

        child = _fork(write)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            report = pipe.read(8 * rng.randint(1, 60))
            time.sleep(rng.uniform(0, 0.003))
            os.kill(child, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            report += pipe.read()
        stored += [int.from_bytes(report[i : i + 8], "little") for i in range(0, len(report), 8)]
        store = open_store(folder, max_bytes)
        assert all(is_stored(store, [repeated(n, 20) for n in stored[-kept:]]))
        assert store.stats.dropped == 0
        assert size(folder) <= max_bytes
        store.close()
    assert len(stored) > 5 * kept


def full_disk(folder: Path) -> None:
    """A limit on file sizes acts like a full disk."""
    put(open_store(folder), [repeated(1, 20)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    store = open_store(folder)
    passages = [repeated(n, 20) for n in range(1000)]
    for start in range(0, 1000, 10):
        put(store, passages[start : start + 10])
    stored = is_stored(store, passages)
    assert 100 < sum(stored) < 1000
    assert store.stats.dropped == 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    reopened = open_store(folder)
    assert is_stored(reopened, passages) == stored
    put(reopened, passages)
    assert all(is_stored(reopened, passages))


def read_only(folder: Path) -> None:
    """Stored passages are used, new ones are not stored."""
    put(open_store(folder), [[1, 2], [3]])
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    folder.parent.chmod(0o755)
    folder.parent.parent.chmod(0o755)
    if os.geteuid() == 0:
        os.seteuid(65534)  # root ignores permissions
    store = open_store(folder)
    assert is_stored(store, [[1, 2], [3], [4]]) == [True, True, False]
    assert store._records.writable  # nothing has been written yet
    put(store, [[4]])
    put(store, [[5]])
    assert is_stored(store, [[1, 2], [3], [4]]) == [True, True, False]


def _fork(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _outcome(check: Callable[[Path], None], folder: Path) -> tuple[int, str]:
    folder.mkdir()
    stderr = folder / "stderr"

    def work() -> None:
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
        check(folder / "store")

    status = os.waitpid(_fork(work), 0)[1]
    return os.waitstatus_to_exitcode(status), stderr.read_text()


if __name__ == "__main__":
    checks = (share_small_store, encode_same_passages, killed, full_disk, read_only)
    print(json.dumps({check.__name__: _outcome(check, Path(sys.argv[1]) / check.__name__) for check in checks}))
