"""Speed and size of the passage store: `python -m benchmarks.encodings [FOLDER]`.

Each round stores the passages of one question and reads them back: 60 passages of about 128 tokens, 576 wide, in
bfloat16. Reports medians over rounds, with a warm file cache. If lmdb is installed, also those of LMDB alone, whose
records are checksummed but neither counted nor evicted.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ragx.cepe.encodings import pack_rows
from ragx.cepe.store import PassageStore
from ragx.cepe.store.rows import Rows, concatenate

PASSAGES, TOKENS, WIDTH, ROUNDS = 60, 128, 576, 15
FULL_AFTER = 6
"""Rounds after which the small store is full and evicts."""


def main(folder: Path) -> None:
    """Print one line per figure."""
    torch.set_num_threads(1)
    payload = PASSAGES * TOKENS * WIDTH * 2
    questions = [
        [[question, n, *range(TOKENS - 10 + n % 17)] for n in range(PASSAGES)]  # 120 to 136 tokens
        for question in range(ROUNDS)
    ]
    rows = [pack_rows(torch.randn(len(passage), WIDTH), "bfloat16") for passage in questions[0]]
    large = PassageStore(folder / "large", "reader", WIDTH, max_bytes=1 << 30)
    report("put", [seconds(lambda q=q: large.put(q, rows)) for q in questions])  # type: ignore[misc]
    large.close()
    large = PassageStore(folder / "large", "reader", WIDTH, max_bytes=1 << 30)
    report("get", [seconds(lambda q=q: read(large, q)) for q in questions])  # type: ignore[misc]
    assert large.stats.hits == ROUNDS * PASSAGES
    size = sum(path.stat().st_size for path in (folder / "large").iterdir())
    exact = ROUNDS * sum(len(passage.tobytes()) for passage in rows)
    print(f"size        {size / exact:8.4f} bytes on disk per byte of rows")
    small = PassageStore(folder / "small", "reader", WIDTH, max_bytes=FULL_AFTER * payload)
    report("put, full", [seconds(lambda q=q: small.put(q, rows)) for q in questions][FULL_AFTER:])  # type: ignore[misc]
    lmdb(folder / "lmdb", rows)


def lmdb(folder: Path, rows: list[Rows]) -> None:
    """The same payloads in a bare LMDB."""
    try:
        import lmdb
    except ImportError:
        return
    payloads = [row.tobytes() for row in rows]

    def keys(question: int) -> list[bytes]:
        return [hashlib.sha256(f"{question} {number}".encode()).digest() for number in range(len(payloads))]

    with lmdb.open(str(folder), map_size=1 << 30, sync=False) as database:

        def put(question: int) -> None:
            with database.begin(write=True) as transaction:
                for key, payload in zip(keys(question), payloads, strict=True):
                    transaction.put(key, zlib.crc32(payload).to_bytes(4, "little") + payload)

        def get(question: int) -> None:
            found = []
            with database.begin() as transaction:
                for key, row in zip(keys(question), rows, strict=True):
                    record = transaction.get(key)
                    assert record is not None
                    payload = record[4:]
                    assert zlib.crc32(payload) == int.from_bytes(record[:4], "little")
                    found.append(Rows.from_bytes(payload, len(row.values), WIDTH, "bfloat16"))
            concatenate(found, WIDTH, "bfloat16")

        report("put, LMDB", [seconds(partial(put, question)) for question in range(ROUNDS)])
        report("get, LMDB", [seconds(partial(get, question)) for question in range(ROUNDS)])
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"size, LMDB  {size / (ROUNDS * sum(map(len, payloads))):8.4f} bytes on disk per byte of rows")


def read(store: PassageStore, passages: list[list[int]]) -> None:
    """Read and concatenate the rows, as `PassageStore.encode` does for a question."""
    concatenate([rows for rows in store.get(passages) if rows is not None], WIDTH, "bfloat16")


def seconds(step: Callable[[], object]) -> float:
    """Wall time of `step`."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def report(name: str, times: list[float]) -> None:
    """Print milliseconds per question and passages per second."""
    median = statistics.median(times)
    print(f"{name:10}  {median * 1000:8.2f} ms per question  {PASSAGES / median:8.0f} passages/s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as name:
            main(Path(name))
