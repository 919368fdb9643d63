"""Who reads which tokens in split decoding: runs of tokens, each inside one passage, grouped into splits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from ragx_kernels.cross_attention.lse import Offsets


@dataclass(frozen=True)
class Splits:
    """Split s of question b reads the runs `first_run[b, s]` up to `first_run[b, s + 1]`."""

    runs: Tensor
    """(B, R, 2), int32: first token and end of each run; empty runs pad the shorter rows."""
    first_run: Tensor
    """(B, S + 1), int32."""
    passage: Tensor
    """(B, R), int64: the passage of each run; K for padding."""


@lru_cache(maxsize=16)  # the layers of a model ask for the same splits at every step
def split(offsets: Offsets, wanted: int, *, keep_passages: bool, device: torch.device) -> Splits:
    """About `wanted` splits a question, of like size, that end where passages end.

    A passage longer than a split's share is cut into runs of a split each. With `keep_passages` a run stays inside one
    passage, so that its log-sum-exp is known; otherwise the short passages of a split are one run.
    """
    rows = [_split_row(starts, wanted, keep_passages) for starts in offsets]
    most_runs = max(sum(len(runs) for runs in row) for row in rows)
    most_splits = max(len(row) for row in rows)
    runs, first_run, passage = [], [], []
    for row, starts in zip(rows, offsets, strict=True):
        flat = [run for runs_of_split in row for run in runs_of_split]
        padding = most_runs - len(flat)
        runs.append([(start, stop) for start, stop, _ in flat] + [(0, 0)] * padding)
        passage.append([k for _, _, k in flat] + [len(starts) - 1] * padding)
        firsts = [0]
        for runs_of_split in row:
            firsts.append(firsts[-1] + len(runs_of_split))
        first_run.append(firsts + [firsts[-1]] * (most_splits + 1 - len(firsts)))
    return Splits(
        torch.tensor(runs, dtype=torch.int32, device=device).view(len(rows), most_runs, 2),
        torch.tensor(first_run, dtype=torch.int32, device=device),
        torch.tensor(passage, dtype=torch.int64, device=device).view(len(rows), most_runs),
    )


def _split_row(starts: tuple[int, ...], wanted: int, keep_passages: bool) -> list[list[tuple[int, int, int]]]:
    share = max(1, -(-starts[-1] // wanted))
    splits: list[list[tuple[int, int, int]]] = []
    room = 0  # what the last split may still take
    for k, (start, stop) in enumerate(pairwise(starts)):
        if stop == start:
            continue
        pieces = -(-(stop - start) // share)
        if pieces > 1:
            cuts = [start + (stop - start) * i // pieces for i in range(pieces + 1)]
            splits.extend([(a, b, k)] for a, b in pairwise(cuts))
            room = 0
        elif stop - start > room:
            splits.append([(start, stop, k)])
            room = share - (stop - start)
        else:
            last = splits[-1]
            if keep_passages:
                last.append((start, stop, k))
            else:  # passages are neighbours, empty ones aside
                last[-1] = (last[-1][0], stop, k)
            room -= stop - start
    return splits
