"""How split decoding divides the tokens: runs of adjacent tokens, grouped into splits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from ragx_kernels.cross_attention.lse import Offsets


@dataclass(frozen=True)
class Splits:
    """Split s of question b reads runs `first_run[b, s]` to `first_run[b, s + 1] - 1`."""

    runs: Tensor
    """(B, R, 2), int32: start and end of each run; empty runs pad shorter rows."""
    first_run: Tensor
    """(B, S + 1), int32."""
    passage: Tensor
    """(B, R), int64: the passage of each run; K for padding."""


@lru_cache(maxsize=16)  # all layers need the same splits at every step
def split(offsets: Offsets, count: int, *, keep_passages: bool, device: torch.device) -> Splits:
    """About `count` splits per question, similar in size, that end where passages end.

    A passage longer than a split is divided into several splits of one run each. With `keep_passages` a run stays
    inside one passage, so that its log-sum-exp is known; otherwise the short passages of a split form one run.
    """
    rows = [_split_row(starts, count, keep_passages) for starts in offsets]
    most_runs = max(sum(len(runs) for runs in row) for row in rows)
    most_splits = max(len(row) for row in rows)
    runs, first_run, passage = [], [], []
    for row, starts in zip(rows, offsets, strict=True):
        flat = [run for split_runs in row for run in split_runs]
        padding = most_runs - len(flat)
        runs.append([(start, stop) for start, stop, _ in flat] + [(0, 0)] * padding)
        passage.append([k for _, _, k in flat] + [len(starts) - 1] * padding)
        firsts = [0]
        for split_runs in row:
            firsts.append(firsts[-1] + len(split_runs))
        first_run.append(firsts + [firsts[-1]] * (most_splits + 1 - len(firsts)))
    return Splits(
        torch.tensor(runs, dtype=torch.int32, device=device).view(len(rows), most_runs, 2),
        torch.tensor(first_run, dtype=torch.int32, device=device),
        torch.tensor(passage, dtype=torch.int64, device=device).view(len(rows), most_runs),
    )


def _split_row(starts: tuple[int, ...], count: int, keep_passages: bool) -> list[list[tuple[int, int, int]]]:
    """Runs (start, end, passage) of each split."""
    size = max(1, -(-starts[-1] // count))
    splits: list[list[tuple[int, int, int]]] = []
    room = 0  # tokens that still fit into the last split
    for k, (start, stop) in enumerate(pairwise(starts)):
        if stop == start:
            continue
        pieces = -(-(stop - start) // size)
        if pieces > 1:
            cuts = [start + (stop - start) * i // pieces for i in range(pieces + 1)]
            splits.extend([(a, b, k)] for a, b in pairwise(cuts))
            room = 0
        elif stop - start > room:
            splits.append([(start, stop, k)])
            room = size - (stop - start)
        else:
            last = splits[-1]
            if keep_passages:
                last.append((start, stop, k))
            else:  # passages are neighbours, empty ones aside
                last[-1] = (last[-1][0], stop, k)
            room -= stop - start
    return splits
