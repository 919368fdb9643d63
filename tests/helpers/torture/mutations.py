"""Damage to each kind of file in an index."""

from __future__ import annotations

import json
import random
import traceback
from collections import Counter
from pathlib import Path

from ragx.errors import IndexFolderError
from ragx.index import Index, index, read_manifest, verify
from tests.helpers.mutations import mutated
from tests.helpers.torture.index import NEW, answer, build, thin


def mutations(work: Path, number: int, rng: random.Random) -> dict[str, int]:
    """Flip, cut off, add or overwrite bytes in each kind of file.

    The index is searched as it is, and as if it were too large to be checked on opening; then wrong answers are
    allowed, but no crash.
    """
    figures: Counter[str] = Counter(mutations=0, undetected=0, silently_wrong=0, wrong_when_large=0, tracebacks=0)
    small = index.MAX_CHECKED_BYTES
    folder = work / "index"
    build(folder, NEW)
    thin(folder)
    expected = answer(Index.open(folder))
    generation = folder / (folder / "CURRENT").read_text().strip()
    kinds = {Path(name).name: generation / name for name in [*read_manifest(folder).files, "manifest.json"]}
    figures["kinds"] = len(kinds)
    for path in kinds.values():
        whole = path.read_bytes()
        for _ in range(number):
            path.unlink()  # other generations may share the file
            changed = mutated(whole, rng)
            while path.name == "manifest.json" and same_values(changed, whole):
                changed = mutated(whole, rng)
            path.write_bytes(changed)
            figures["mutations"] += 1
            try:
                verify(folder)
                figures["undetected"] += 1
            except IndexFolderError:
                pass
            for read, wrong in ((small, "silently_wrong"), (0, "wrong_when_large")):
                index.MAX_CHECKED_BYTES = read
                try:
                    figures[wrong] += answer(Index.open(folder)) != expected
                except IndexFolderError:
                    pass
                except Exception:
                    traceback.print_exc()
                    figures["tracebacks"] += 1
                index.MAX_CHECKED_BYTES = small
        path.unlink()
        path.write_bytes(whole)
    return dict(figures)


def same_values(one: bytes, other: bytes) -> bool:
    """Whether they are the same JSON, except for white space."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False
