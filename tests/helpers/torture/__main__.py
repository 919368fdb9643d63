"""An index under kill -9, failing writes, damaged files and many readers: `make torture`; fewer in test_torture.py.

    python -m tests.helpers.torture [--kills 200] [--stride 1] [--mutations 100] [--updates 20] [--queries 10000]

`kills.py`, `faults.py`, `mutations.py` and `readers.py` say what is tried.
Prints one JSON object of figures. A machine that goes down, and loses what was not synced, is not tried.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory

# Imported here so that a forked process imports nothing, and opens no files but its own.
import faiss
import filelock
import pyarrow as pa
import tantivy

from tests.helpers.torture.faults import faults
from tests.helpers.torture.index import forked
from tests.helpers.torture.kills import kills
from tests.helpers.torture.mutations import mutations
from tests.helpers.torture.readers import readers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stride", type=int, default=1, help="of the faults every so many")
    parser.add_argument("--mutations", type=int, default=100, help="of each kind of file")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    memory = Path("/dev/shm")  # noqa: S108  (thousands of fsyncs: a disk would take an hour)
    figures = {}
    for name, trial in {
        "kills": lambda work: kills(work, given.kills, rng),
        "faults": lambda work: forked(lambda: faults(work, given.stride)),
        "mutations": lambda work: forked(lambda: mutations(work, given.mutations, rng)),
        "readers": lambda work: readers(work, given.updates, given.queries),
    }.items():
        with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
            figures[name] = trial(Path(folder))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    assert all((faiss, filelock, tantivy))
    pa.array([""])  # imports pandas, where there is one
    main()
