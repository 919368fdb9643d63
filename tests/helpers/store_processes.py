"""Run by test_store_sharing.py: what happens to a store when processes die, share it or may not write.

Takes a folder to work in. Prints one JSON object: for each function below its exit code and what it wrote to stderr; a
failed check is a traceback.
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

from tests.helpers.store_data import open_store, passage_of, put, size, there


def hammer(folder: Path) -> None:
    """Three processes read and append at the same time in a cache that is too small for what they use."""
    max_bytes = 3_200_000

    def work(seed: int) -> None:
        store, rng, hits = open_store(folder, max_bytes), random.Random(seed), 0
        for _ in range(80):
            passages = [passage_of(n, 20) for n in rng.choices(range(1500), weights=range(1500, 0, -1), k=30)]
            found = there(store, passages)
            hits += sum(found)
            put(store, [tokens for tokens, here in zip(passages, found, strict=True) if not here])
        assert hits > 200, hits
        assert store._records.writable
        assert store.stats.dropped == 0, store.stats

    children = [_fork(lambda seed=seed: work(seed)) for seed in range(3)]  # type: ignore[misc]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert size(folder) <= max_bytes


def both_encode_the_same(folder: Path) -> None:
    """What two processes store at the same time is there once."""
    passages = [passage_of(n, 20) for n in range(400)]
    children = [_fork(lambda: put(open_store(folder), passages)) for _ in range(2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert all(there(open_store(folder), passages))
    assert size(folder) <= 400 * 3000 + 200_000


def killed(folder: Path) -> None:
    """kill -9 at a random time: every record that was stored before is there and right."""
    rng = random.Random(0)
    max_bytes, keeps = 1_200_000, 100
    stored: list[int] = []
    for attempt in range(40):
        reading, writing = os.pipe()

        def write(first: int = attempt * 100_000, told: int = writing) -> None:
            store = open_store(folder, max_bytes)
            for n in range(first, first + 100_000):
                put(store, [passage_of(n, 20)])
                os.write(told, n.to_bytes(8, "little"))

        child = _fork(write)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read(8 * rng.randint(1, 60))
            time.sleep(rng.uniform(0, 0.003))
            os.kill(child, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            told += pipe.read()
        stored += [int.from_bytes(told[i : i + 8], "little") for i in range(0, len(told), 8)]
        store = open_store(folder, max_bytes)
        assert all(there(store, [passage_of(n, 20) for n in stored[-keeps:]]))
        assert store.stats.dropped == 0
        assert size(folder) <= max_bytes
        store.close()
    assert len(stored) > 5 * keeps


def full_disk(folder: Path) -> None:
    """No file may grow over a limit, as on a full disk."""
    put(open_store(folder), [passage_of(1, 20)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    store = open_store(folder)
    passages = [passage_of(n, 20) for n in range(1000)]
    for start in range(0, 1000, 10):
        put(store, passages[start : start + 10])
    found = there(store, passages)
    assert 100 < sum(found) < 1000
    assert store.stats.dropped == 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    again = open_store(folder)
    assert there(again, passages) == found
    put(again, passages)
    assert all(there(again, passages))


def read_only(folder: Path) -> None:
    """What is there is used, what is not there is not stored."""
    put(open_store(folder), [[1, 2], [3]])
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    folder.parent.chmod(0o755)
    folder.parent.parent.chmod(0o755)
    if os.geteuid() == 0:
        os.seteuid(65534)  # permissions do not bind root
    store = open_store(folder)
    assert there(store, [[1, 2], [3], [4]]) == [True, True, False]
    assert store._records.writable  # nothing was to be written so far: nothing to complain of
    put(store, [[4]])
    put(store, [[5]])
    assert there(store, [[1, 2], [3], [4]]) == [True, True, False]


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
    said = folder / "stderr"

    def work() -> None:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
        check(folder / "store")

    status = os.waitpid(_fork(work), 0)[1]
    return os.waitstatus_to_exitcode(status), said.read_text()


if __name__ == "__main__":
    checks = (hammer, both_encode_the_same, killed, full_disk, read_only)
    print(json.dumps({check.__name__: _outcome(check, Path(sys.argv[1]) / check.__name__) for check in checks}))
