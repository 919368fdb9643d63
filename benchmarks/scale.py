"""The tables of docs/scale.md: `python -m benchmarks.scale`. Arithmetic over figures that name their source."""

from __future__ import annotations

import argparse
import math

PASSAGES = 200_000_000
TOKENS = 256
"""Of a passage: the paper's retrieval corpus."""
TEXT_BYTES = 1_100
"""Of a passage of 256 tokens with its title, ids and offsets: an assumption; `ragx index info` shows `bytes`."""
LEXICAL_BYTES = 149
"""Of a passage in the lexical index: 100,000 synthetic passages of 100 words (`python -m benchmarks.lexical`)."""
DIMENSIONS = (384, 768)
SHARD = 1_000_000
HNSW_LINKS = 66
"""Neighbours of a vector in HNSW32 with what its upper layers add, 4 bytes each (FAISS: M * 2 + 2)."""
WIDTHS = (576, 1024)


def size(number: float) -> str:
    """Bytes for a reader."""
    return f"{number / 1e12:.2f} TB" if number >= 1e12 else f"{number / 1e9:,.1f} GB"


def disk() -> str:
    """What lies on the disk."""
    lines = ["| what | bytes a passage | 200M passages |", "|---|---|---|"]

    def row(what: str, each: float) -> None:
        lines.append(f"| {what} | {each:,.0f} | {size(each * PASSAGES)} |")

    row("passages: text, title, ids, offsets", TEXT_BYTES)
    row("lexical index", LEXICAL_BYTES)
    for d in DIMENSIONS:
        row(f"vectors d = {d}, float32", 4 * d)
        row(f"vectors d = {d}, float16", 2 * d)
        row(f"vectors d = {d}, int8", d + 4)
        row(f"FAISS flat d = {d}, float32", 4 * d)
        row(f"FAISS hnsw d = {d}, float32", 4 * d + 4 * HNSW_LINKS)
        row(f"FAISS ivfpq d = {d}", d / 8 + 8)
    for width in WIDTHS:
        row(f"encodings E = {width}, bf16", 2 * width * TOKENS)
        row(f"encodings E = {width}, int8", (width + 4) * TOKENS)
    return "\n".join(lines)


def embedding(rate: float, cards: int) -> str:
    """Machines, hours and bytes moved."""
    hours = PASSAGES / rate / 3600
    lines = ["| cards | hours | text read | vectors written (d = 384, float16) |", "|---|---|---|---|"]
    for number in (1, cards, 8 * cards):
        lines.append(
            f"| {number} | {hours / number:,.1f} | {size(TEXT_BYTES * PASSAGES)} | {size(2 * 384 * PASSAGES)} |"
        )
    return "\n".join(lines)


def latency(milliseconds: float, vectors: int, cores: int) -> str:
    """Of one dense search: every shard is searched, as many at a time as there are cores."""
    lines = ["| machines | shards on each | rounds of its cores | ms |", "|---|---|---|---|"]
    for machines in (1, 8, 32, 128):
        shards = math.ceil(PASSAGES / SHARD / machines)
        rounds = math.ceil(shards / cores)
        lines.append(f"| {machines} | {shards} | {rounds} | {rounds * milliseconds * SHARD / vectors:,.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rate", type=float, default=5000, help="passages of 256 tokens that a card embeds in a second"
    )
    parser.add_argument("--cards", type=int, default=8)
    parser.add_argument("--milliseconds", type=float, default=32.3, help="p50 of a search of one shard by one core")
    parser.add_argument("--vectors", type=int, default=SHARD, help="vectors in the shard of which that is the p50")
    parser.add_argument("--cores", type=int, default=16)
    given = parser.parse_args()
    print(f"## Disk\n\n{disk()}\n\n## Embedding at {given.rate:,.0f} passages/s a card\n")
    print(embedding(given.rate, given.cards))
    print(f"\n## Dense search, {given.milliseconds} ms for {given.vectors:,} vectors, {given.cores} cores\n")
    print(latency(given.milliseconds, given.vectors, given.cores))


if __name__ == "__main__":
    main()
