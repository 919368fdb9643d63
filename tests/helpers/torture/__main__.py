"""Test an index with kill -9, failing writes, damaged files and many readers: `make torture`.

    python -m tests.helpers.torture [--kills 200] [--stride 1] [--mutations 100] [--updates 20] [--queries 10000]

The tests are in `kills.py`, `faults.py`, `mutations.py` and `readers.py`; test_torture.py runs fewer of them. Prints a
JSON object of figures. Power loss, which loses unsynced data, is not tested.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory

# imported here so that forked processes import nothing and open only their own files
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
    parser.add_argument("--stride", type=int, default=1, help="run every n-th fault")
    parser.add_argument("--mutations", type=int, default=100, help="mutations per kind of file")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    memory = Path("/dev/shm")  # noqa: S108  (thousands of fsyncs would take an hour on a disk)
    figures = {}
    for name, trial in {
        "kills": lambda work: kills(work, options.kills, rng),
        "faults": lambda work: forked(lambda: faults(work, options.stride)),
        "mutations": lambda work: forked(lambda: mutations(work, options.mutations, rng)),
        "readers": lambda work: readers(work, options.updates, options.queries),
    }.items():
        with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
            figures[name] = trial(Path(folder))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    assert all((faiss, filelock, tantivy))
    pa.array([""])  # imports pandas, if installed
    main()
