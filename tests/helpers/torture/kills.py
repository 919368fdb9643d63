"""kill -9 at random steps of writers."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ragx.index import collect_garbage
from tests.helpers.torture.index import contents, copy, forked, starts
from tests.helpers.torture.steps import count_steps, watched


def kills(work: Path, number: int, rng: random.Random) -> dict[str, int]:
    """kill -9 at random steps of random actions, which then run again."""
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
