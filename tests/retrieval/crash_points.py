"""Run by test_crashes.py: builds and updates of an index, killed at each of their steps, and what then becomes of it.

A step is an audit event about a path in the index folder: opening, renaming, creating or deleting a file or folder.
Takes a folder to work in; prints one JSON line for each step at which a build or update was killed.
"""

from __future__ import annotations

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
from toy_encoders import WordEncoder, passage, passages

from ragx.config import IndexSettings
from ragx.retrieval import Index, Retriever, build_index, update_index, verify

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


def update(folder: Path) -> None:
    """Deletes a passage of the first shard, which stays, and replaces the one of the second."""
    changed = [passage(3, "cloud 3 reflects")]
    update_index(folder, CountingEncoder(), add=changed, delete=["doc1#0"], quiet=True)


def thin(folder: Path) -> None:
    update_index(folder, delete=["doc1#0"], quiet=True)


def killed_at(step: int, folder: Path, action: Callable[[Path], None]) -> None:
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
    action(folder)


def contents(folder: Path) -> dict[str, object]:
    verify(folder)
    index = Index.open(folder)
    hits = Retriever(index, WordEncoder()).search("snow 3 soil 3", 5)
    return {
        "passages": [index.passage(row).text for row in index.rows()],
        "vectors": [index.vector(row).tolist() for row in index.rows()],
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


def kill_everywhere(name: str, start: Path, action: Callable[[Path], None], work: int, stride: int = 1) -> None:
    """Kill an action over a copy of `start` at each step, then let it run; it has `work` passages to encode."""
    whole, folder = FOLDER / f"{name}-whole", FOLDER / "index"
    old = forked(lambda: contents(start)) if (start / "CURRENT").exists() else None
    shutil.copytree(start, whole)
    forked(lambda: action(whole))
    new = forked(lambda: contents(whole))
    assert new
    assert old != new
    step = 1
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        COUNT.write_text("")
        killed = forked(lambda: [killed_at(step, folder, action)]) is None  # noqa: B023
        if not killed and stride == 1:
            break
        if not killed:
            step, stride = step - stride + 1, 1  # the last steps one by one
            continue
        published = (folder / "CURRENT").exists()
        left = forked(lambda: contents(folder)) if published else None
        encoded = len(COUNT.read_text())
        forked(lambda: action(folder))
        if left != new:
            encoded = len(COUNT.read_text())
        outcome = {
            "start": name,
            "step": step,
            "left": "new" if left == new else "old" if left == old else "damage",
            "twice": encoded - work,
            "resumed": forked(lambda: contents(folder)) == new,
        }
        print(json.dumps(outcome))
        step += stride


def main() -> None:
    empty, started, updated = FOLDER / "empty", FOLDER / "started", FOLDER / "updated"
    empty.mkdir()
    forked(lambda: build(started, OLD))
    forked(lambda: build(updated, NEW))
    kill_everywhere("empty", empty, lambda folder: build(folder, NEW), len(NEW), stride=4)
    kill_everywhere("started", started, lambda folder: build(folder, NEW), len(NEW))
    kill_everywhere("updated", updated, update, 1, stride=3)
    kill_everywhere("thinned", updated, thin, 0, stride=4)


FOLDER = Path(sys.argv[1])
COUNT = FOLDER / "encoded"
assert all((bm25s, faiss, filelock, Stemmer))
pa.array([""])  # imports pandas, where there is one
main()
