"""Run by test_crashes.py: builds an index over another, killed at each of its steps, and what then becomes of it.

A step is an audit event about a path in the index folder: opening, renaming, creating or deleting a file or folder.
Takes a folder to work in; prints one JSON line for each step at which the build was killed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

# Imported here so that a forked build imports nothing, and opens no files but its own.
import bm25s.tokenization
import faiss
import filelock
import numpy as np
import pyarrow as pa
import Stemmer
from toy_encoders import WordEncoder, passages

from ragx.config import IndexSettings
from ragx.retrieval import Index, Retriever, build_index, verify

OLD = [f"soil {n} absorbs" for n in range(2)]
NEW = [f"snow {n} reflects" for n in range(4)]
SHARD = 3


class CountingEncoder(WordEncoder):
    """Notes in a file how many passages it encoded: the process may not live to tell."""

    def encode_passages(self, passages: list, on_progress: Callable[[int], object]) -> np.ndarray:  # type: ignore[override, type-arg]
        with COUNT.open("a") as file:
            file.write("x" * len(passages))
        return super().encode_passages(passages, on_progress)


def build(folder: Path, texts: list[str]) -> None:
    build_index(passages(texts), folder, CountingEncoder(), IndexSettings(shard_size=SHARD), quiet=True)


def build_killed_at(step: int, folder: Path) -> None:
    seen = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree") and str(
            arguments[0]
        ).startswith(str(folder)):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    build(folder, NEW)


def contents(folder: Path) -> dict[str, object]:
    verify(folder)
    index = Index.open(folder)
    hits = Retriever(index, WordEncoder()).search("snow 3 soil 3", 5)
    return {
        "passages": [index.passage(row).text for row in range(len(index))],
        "vectors": np.concatenate([shard.vectors for shard in index.shards]).tolist(),
        "hits": [[hit.passage.id, hit.score] for hit in hits],
    }


def forked(action: Callable[[], object]) -> object:
    """The result of an action in a process of its own, or None if that was killed."""
    result = FOLDER / "result.json"
    result.unlink(missing_ok=True)
    if (child := os.fork()) == 0:
        try:
            result.write_text(json.dumps(action()))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else json.loads(result.read_text())


def main() -> None:
    empty, started = FOLDER / "empty", FOLDER / "started"
    empty.mkdir()
    forked(lambda: build(started, OLD))
    old = forked(lambda: contents(started))
    shutil.copytree(started, FOLDER / "whole")
    forked(lambda: build(FOLDER / "whole", NEW))
    new = forked(lambda: contents(FOLDER / "whole"))
    assert old
    assert new
    assert old != new
    for start, stride in ((started, 1), (empty, 4)):
        for step in itertools.count(1, stride):
            folder = FOLDER / "index"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(start, folder)
            COUNT.write_text("")
            killed = forked(lambda: [build_killed_at(step, folder)]) is None  # noqa: B023
            if not killed:
                break
            published = (folder / "CURRENT").exists()
            left = forked(lambda: contents(folder)) if published else None  # noqa: B023
            finished = left == new
            forked(lambda: build(folder, NEW))  # noqa: B023
            print(
                json.dumps(
                    {
                        "start": start.name,
                        "step": step,
                        "left": "new"
                        if finished
                        else "old"
                        if left == old
                        else "nothing"
                        if not published
                        else "damage",
                        "encoded": len(COUNT.read_text()) - (len(NEW) if finished else 0),
                        "resumed": forked(lambda: contents(folder)) == new,  # noqa: B023
                    }
                )
            )


FOLDER = Path(sys.argv[1])
COUNT = FOLDER / "encoded"
assert all((bm25s, faiss, filelock, Stemmer))
pa.array([""])  # imports pandas, where there is one
main()
