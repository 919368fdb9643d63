"""Seconds from saving a file to the first search that finds it, while `ragx watch` follows its folder.

    python -m benchmarks.watch [FILES …]

Prints a table with a row for each number of files in the folder (default: 100, 1000).
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.tables import markdown
from ragx.retrieval import CurrentIndex, open_index

FILES = (100, 1000)
TRIALS = 5
WORDS = (
    "snow",
    "soil",
    "harbour",
    "river",
    "lock",
    "crane",
    "tide",
    "mill",
    "oven",
    "press",
    "ferry",
    "bridge",
    "peat",
)
READY = "watching:"
"""What `ragx watch` logs when it sees changes."""


def text(seed: int) -> str:
    """About 150 words."""
    chance = random.Random(seed)
    return " ".join(chance.choices(WORDS, k=150)) + "."


def seconds(files: int) -> list[float]:
    """What each trial took."""
    with TemporaryDirectory() as name:
        folder, index = Path(name, "notes"), Path(name, "index")
        folder.mkdir()
        for number in range(files):
            (folder / f"{number}.txt").write_text(f"File {number}. {text(number)}")
        ragx = [sys.executable, "-m", "ragx"]
        subprocess.run([*ragx, "index", "build", str(folder), "--index", str(index)], check=True, capture_output=True)
        watching = subprocess.Popen(
            [*ragx, "watch", str(folder), "--index", str(index)], stderr=subprocess.PIPE, text=True
        )
        assert watching.stderr is not None
        next(line for line in watching.stderr if READY in line)
        try:
            current = open_index(index, method="bm25")
            return [_until_found(current, folder, trial) for trial in range(TRIALS)]
        finally:
            watching.send_signal(signal.SIGINT)
            watching.wait()


def _until_found(current: CurrentIndex, folder: Path, trial: int) -> float:
    word = f"zyx{trial}word"
    begin = time.monotonic()
    (folder / f"new{trial}.txt").write_text(f"A new file about {word}. {text(-trial)}")
    while not any(word in hit.passage.text for hit in current.retriever.search(word, 1, "bm25")):
        time.sleep(0.02)
    return time.monotonic() - begin


def main() -> None:
    """Print the table."""
    rows = []
    for files in [int(argument) for argument in sys.argv[1:]] or FILES:
        took = seconds(files)
        rows.append([f"{files:,}", f"{median(took):.2f}", f"{min(took):.2f}-{max(took):.2f}"])
    print(markdown(["files", "median s", "range"], rows))


if __name__ == "__main__":
    main()
