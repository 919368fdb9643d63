"""Damage to a file, the same for the same seed."""

from __future__ import annotations

import random


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """`whole` with a bit flipped, some bytes overwritten, left out, doubled or appended, or the end cut off."""
    if not whole:
        return rng.randbytes(8)
    at, end = sorted((rng.randrange(len(whole)), rng.randrange(1, len(whole) + 1)))
    end = min(end, at + 64)
    changed = rng.choice(
        [
            whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :],
            whole[:at] + rng.randbytes(end - at) + whole[end:],
            whole[:at] + rng.choice([b"\0", b"\xff"]) * (end - at) + whole[end:],
            whole[:at] + whole[end:],
            whole[:end] + whole[at:],
            whole[:at],
            whole + rng.randbytes(1),
        ]
    )
    return changed if changed != whole else whole + b"\0"
