"""Files that are damaged: each kind of file of an index."""

from __future__ import annotations

import random
import traceback
from collections import Counter
from pathlib import Path

from torture_index import NEW, answer, build, thin

from ragx.errors import IndexFolderError
from ragx.retrieval import Index, read_manifest, verify


def mutations(work: Path, number: int, rng: random.Random) -> dict[str, int]:
    """Bytes flipped, cut off, added or overwritten in each kind of file."""
    figures: Counter[str] = Counter(mutations=0, undetected=0, silently_wrong=0, tracebacks=0)
    folder = work / "index"
    build(folder, NEW)
    thin(folder)
    right = answer(Index.open(folder))
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
                figures["silently_wrong"] += answer(Index.open(folder)) != right
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
