"""Failing writes, as on a full or broken disk."""

from __future__ import annotations

import errno
import os
import traceback
from collections import Counter
from pathlib import Path

from ragx.errors import RagxError
from tests.helpers.torture.index import contents, copy, starts
from tests.helpers.torture.steps import count_steps, watched


def faults(work: Path, stride: int) -> dict[str, int]:
    """Fail one step (EIO), or all writes from that step on (ENOSPC; deleting still works)."""
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
