"""Small indexes to test, actions on them, and their expected contents."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragx.config import IndexSettings
from ragx.index import Index, build_index, collect_garbage, compact_index, update_index, verify
from ragx.index.manifest import SOURCES
from ragx.retrieval import Retriever
from tests.helpers.toy_embedders import WordEmbedder, passage, passages

OLD = [f"soil {n} absorbs" for n in range(2)]
NEW = [f"snow {n} reflects" for n in range(4)]


def build(folder: Path, texts: list[str]) -> None:
    settings = IndexSettings(shard_size=3)
    build_index(passages(texts), folder, WordEmbedder(), settings, sources=lambda: [f"{texts}\n".encode()], quiet=True)


def update(folder: Path) -> None:
    """Delete a passage of the first shard, which is kept, and replace the only one of the second."""
    new = [passage(3, "cloud 3 reflects")]
    update_index(folder, WordEmbedder(), add=new, delete=["doc1#0"], sources=lambda: [b"updated\n"], quiet=True)


def thin(folder: Path) -> None:
    update_index(folder, delete=["doc1#0"], quiet=True)


def starts(work: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """By name: a folder to start from, and an action on a copy of it."""
    empty, old, new, thinned = (work / name for name in ("empty", "old", "new", "thinned"))
    empty.mkdir()
    forked(lambda: build(old, OLD))
    forked(lambda: build(new, NEW))
    forked(lambda: (build(thinned, NEW), thin(thinned)))
    return {
        "build": (empty, lambda folder: build(folder, NEW)),
        "rebuild": (old, lambda folder: build(folder, NEW)),
        "update": (new, update),
        "delete": (new, thin),
        "compact": (thinned, lambda folder: compact_index(folder, quiet=True)),
        "gc": (thinned, lambda folder: collect_garbage(folder, quiet=True)),
    }


def contents(folder: Path) -> Any:
    """The contents and answers of an index, or None if there is none."""
    if not (folder / "CURRENT").exists():
        return None
    verify(folder)
    index = Index.open(folder)
    rows = index.rows().tolist()
    return [
        [index.passage(row).text for row in rows],
        [index.vector(row).tolist() for row in rows],
        answer(index),
        (folder / index.generation / SOURCES).read_text(),
    ]


def answer(index: Index) -> list[list[object]]:
    hits = Retriever(index, WordEmbedder()).search("snow 3 soil 3", 5)
    return [[hit.passage.id, hit.score] for hit in hits]


def copy(start: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(start, folder)
    return folder


def forked(action: Callable[[], object]) -> Any:
    """The result of an action in a forked process, or the negated signal that ended it."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.close(reading)
            result = json.dumps(action(), default=str).encode()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(result)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        result = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise RuntimeError("a process failed: see above")
    return json.loads(result) if code == 0 else code
