"""An index under kill -9, failing writes, damaged files and many readers: `make torture`; fewer in test_torture.py.

    python tests/retrieval/torture.py [--kills 200] [--stride 1] [--mutations 100] [--updates 20] [--queries 10000]

A step is a write, an fsync, or the opening for writing, renaming, linking, creating or deleting of a file or folder.
Prints one JSON object of figures. A machine that goes down, and loses what was not synced, is not tried.
"""

from __future__ import annotations

import argparse
import builtins
import errno
import io
import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Imported here so that a forked process imports nothing, and opens no files but its own.
import bm25s.tokenization
import faiss
import filelock
import pyarrow as pa
import Stemmer
from toy_encoders import WordEncoder, passage, passages

from ragx.config import IndexSettings
from ragx.errors import IndexFolderError, RagxError
from ragx.retrieval import (
    Index,
    Retriever,
    build_index,
    collect_garbage,
    compact_index,
    read_manifest,
    update_index,
    verify,
)

OLD = [f"soil {n} absorbs" for n in range(2)]
NEW = [f"snow {n} reflects" for n in range(4)]
READERS = 8
Step = Callable[[str, object], None]


def build(folder: Path, texts: list[str]) -> None:
    build_index(passages(texts), folder, WordEncoder(), IndexSettings(shard_size=3), quiet=True)


def update(folder: Path) -> None:
    """Deletes a passage of the first shard, which stays, and replaces the one of the second."""
    update_index(folder, WordEncoder(), add=[passage(3, "cloud 3 reflects")], delete=["doc1#0"], quiet=True)


def thin(folder: Path) -> None:
    update_index(folder, delete=["doc1#0"], quiet=True)


def starts(work: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """By name: a folder to start from, and what is done to a copy of it."""
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


def contents(folder: Path) -> object:
    """What an index answers, or None where there is none."""
    if not (folder / "CURRENT").exists():
        return None
    verify(folder)
    index = Index.open(folder)
    hits = Retriever(index, WordEncoder()).search("snow 3 soil 3", 5)
    rows = index.rows().tolist()
    return [
        [index.passage(row).text for row in rows],
        [index.vector(row).tolist() for row in rows],
        [[hit.passage.id, hit.score] for hit in hits],
    ]


# Steps


class WatchedFile:
    """A file whose writes are steps, whichever library does them: it is none of those that NumPy writes to itself."""

    def __init__(self, file: Any, path: object, step: Step) -> None:
        self._file, self._path, self._step = file, path, step

    def write(self, data: Any) -> Any:
        self._step("write", self._path)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> WatchedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


hooks: list[Step] = []


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not hooks:
        return
    if event == "open":
        _, mode, flags = arguments
        if not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not set(mode or "") & set("wax+"):
            return
    elif event not in ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir"):
        return
    hooks[0](event, arguments[0])


@contextmanager
def watched(folder: Path, step: Step) -> Iterator[None]:
    """Call `step` with its kind and path before each step that is taken in a folder."""

    def ours(kind: str, path: object) -> None:
        # shutil.rmtree names files relative to a folder that it holds open
        if str(path).startswith(str(folder)) or (kind in ("os.remove", "os.rmdir") and "/" not in str(path)):
            step(kind, path)

    opened, synced = builtins.open, os.fsync

    def open_watched(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        raw = opened(file, mode, *arguments, **named)
        return WatchedFile(raw, file, ours) if set(mode) & set("wax+") and isinstance(file, str | Path) else raw

    def sync(descriptor: int) -> None:
        ours("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
        synced(descriptor)

    builtins.open = io.open = open_watched  # type: ignore[assignment]
    os.fsync = sync  # type: ignore[assignment]
    hooks.append(ours)
    try:
        yield
    finally:
        hooks.clear()
        builtins.open = io.open = opened
        os.fsync = synced


def forked(action: Callable[[], object]) -> Any:
    """The result of an action in a process of its own, or the signal that ended it, negative."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.close(reading)
            said = json.dumps(action(), default=str).encode()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(said)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise RuntimeError("a process failed: see above")
    return json.loads(said) if code == 0 else code


def copy(start: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(start, folder)
    return folder


def count_steps(start: Path, folder: Path, action: Callable[[Path], object]) -> int:
    seen: list[str] = []
    copy(start, folder)
    with watched(folder, lambda kind, path: seen.append(kind)):
        action(folder)
    return len(seen)


# What is tried


def kills(work: Path, number: int, rng: random.Random) -> dict[str, int]:
    """kill -9 at random steps of random actions; then the action is run again."""
    figures: Counter[str] = Counter(kills=0, damaged=0, lost_or_doubled=0, orphans=0)
    folder = work / "index"
    plans = []
    for name, (start, action) in starts(work).items():
        steps = forked(lambda: count_steps(start, folder, action))  # noqa: B023
        plans.append((start, action, steps, forked(lambda: contents(start)), forked(lambda: contents(folder))))  # noqa: B023
        figures[f"steps of {name}"] = steps

    def die(at: int, action: Callable[[Path], object]) -> None:
        seen = 0

        def step(kind: str, path: object) -> None:
            nonlocal seen
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

        with watched(folder, step):
            action(folder)

    while figures["kills"] < number:
        start, action, steps, old, new = rng.choice(plans)
        copy(start, folder)
        at = rng.randint(1, steps)
        if forked(lambda: die(at, action)) != -signal.SIGKILL:  # noqa: B023
            raise RuntimeError(f"{action} has fewer than {at} steps")
        figures["kills"] += 1
        figures["damaged"] += forked(lambda: contents(folder)) not in (old, new)
        forked(lambda: action(folder))  # noqa: B023
        figures["lost_or_doubled"] += forked(lambda: contents(folder)) != new
        forked(lambda: collect_garbage(folder, quiet=True))
        left = {path.name for path in folder.iterdir()} - {"CURRENT", "LOCK", (folder / "CURRENT").read_text().strip()}
        figures["orphans"] += len(left)
    return dict(figures)


def faults(work: Path, stride: int) -> dict[str, int]:
    """Steps that fail, once (EIO) or from then on (ENOSPC: no file can be written, but files can be deleted)."""
    figures: Counter[str] = Counter(faults=0, refused=0, half_published=0, lost_or_doubled=0, tracebacks=0, unnamed=0)
    folder = work / "index"
    turn = 0
    for start, action in starts(work).values():
        steps = count_steps(start, folder, action)
        old, new = contents(start), contents(folder)
        for at in range(1, steps + 1):
            for code in (errno.EIO, errno.ENOSPC):
                turn += 1
                if turn % stride:
                    continue
                seen = 0

                def step(kind: str, path: object, at: int = at, code: int = code) -> None:
                    nonlocal seen
                    seen += 1
                    removal = kind in ("os.remove", "os.rmdir")
                    if (seen == at) if code == errno.EIO else (seen >= at and not removal):
                        raise OSError(code, os.strerror(code), str(path))

                copy(start, folder)
                figures["faults"] += 1
                try:
                    with watched(folder, step):
                        action(folder)
                except RagxError as error:
                    figures["refused"] += 1
                    figures["unnamed"] += str(folder) not in str(error)
                except Exception:
                    traceback.print_exc()
                    figures["tracebacks"] += 1
                figures["half_published"] += contents(folder) not in (old, new)
                action(folder)
                figures["lost_or_doubled"] += contents(folder) != new
    return dict(figures)


def mutations(work: Path, number: int, rng: random.Random) -> dict[str, int]:
    """Bytes flipped, cut off, added or overwritten in each kind of file."""
    figures: Counter[str] = Counter(mutations=0, undetected=0, silently_wrong=0, tracebacks=0)
    folder = work / "index"
    build(folder, NEW)
    thin(folder)
    right = contents(folder)
    generation = folder / (folder / "CURRENT").read_text().strip()
    kinds = {Path(name).name: generation / name for name in [*read_manifest(folder).files, "manifest.json"]}
    figures["kinds"] = len(kinds)
    for path in kinds.values():
        whole = path.read_bytes()
        for _ in range(number):
            path.unlink()  # other generations may share the file
            path.write_bytes(mutated(whole, rng))
            figures["mutations"] += 1
            try:
                verify(folder)
                figures["undetected"] += 1
            except IndexFolderError:
                pass
            try:
                index = Index.open(folder)
                hits = Retriever(index, WordEncoder()).search("snow 3 soil 3", 5)
                figures["silently_wrong"] += [[hit.passage.id, hit.score] for hit in hits] != right[2]  # type: ignore[index]
            except IndexFolderError:
                pass
            except Exception:
                traceback.print_exc()
                figures["tracebacks"] += 1
        path.unlink()
        path.write_bytes(whole)
    return dict(figures)


def mutated(whole: bytes, rng: random.Random) -> bytes:
    at, end = sorted((rng.randrange(len(whole)), rng.randrange(1, len(whole) + 1)))
    changed = rng.choice(
        [
            whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :],
            whole[:at] + rng.randbytes(end - at) + whole[end:],
            whole[:at] + bytes(end - at) + whole[end:],
            whole[:at],
            whole + rng.randbytes(1),
        ]
    )
    return changed if changed != whole else whole + b"\0"


def readers(work: Path, updates: int, queries: int) -> dict[str, int]:
    """Processes that open and search an index while all its passages are replaced by another edition, and again."""
    folder, done = work / "index", work / "updated"

    def edition(number: int) -> list[Any]:
        return [passage(n, f"snow {n} edition {number}") for n in range(30)]

    def read(seed: int) -> Counter[str]:
        rng = random.Random(seed)
        figures: Counter[str] = Counter(queries=0, mixed=0, exceptions=0)
        seen = set()
        while figures["queries"] < queries / READERS or not done.exists():
            try:
                retriever = Retriever(Index.open(folder), WordEncoder())
                for _ in range(rng.randint(1, 8)):
                    hits = retriever.search(f"snow {rng.randrange(30)}", 30, rng.choice(["dense", "bm25", "hybrid"]))
                    editions = {hit.passage.text.split()[-1] for hit in hits}
                    figures["queries"] += 1
                    figures["mixed"] += len(hits) != 30 or len(editions) != 1
                    seen |= editions
            except Exception:
                traceback.print_exc()
                figures["exceptions"] += 1
        figures["editions"] = len(seen)
        return figures

    forked(lambda: update_index(folder, WordEncoder(), add=edition(0), create=IndexSettings(shard_size=7), quiet=True))
    children = []
    for seed in range(READERS):
        if (child := os.fork()) == 0:
            (work / f"reader-{seed}").write_text(json.dumps(read(seed)))
            os._exit(0)
        children.append(child)
    for number in range(1, updates + 1):
        forked(lambda: update_index(folder, WordEncoder(), add=edition(number), quiet=True))  # noqa: B023
    done.touch()
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    total: Counter[str] = Counter(readers=READERS, updates=updates, died=sum(code != 0 for code in codes))
    found = [json.loads((work / f"reader-{seed}").read_text()) for seed in range(READERS)]
    for figures in found:
        total.update({name: count for name, count in figures.items() if name != "editions"})
    total["editions_seen_by_one_reader"] = max(figures["editions"] for figures in found)
    return dict(total)


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
    sys.addaudithook(audit)
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
    assert all((bm25s, faiss, filelock, Stemmer))
    pa.array([""])  # imports pandas, where there is one
    main()
