"""The tables of docs/scale.md, computed from measured figures: `python -m benchmarks.scale`."""

from __future__ import annotations

import argparse

from benchmarks.tables import markdown

PASSAGES = 200_000_000
TOKENS = 256
"""Per passage, as in the paper's retrieval corpus."""
TEXT_BYTES = 1_100
"""Per passage of 256 tokens with title, ids and offsets: an assumption; `ragx index info` shows `bytes`."""
LEXICAL_BYTES = 128
"""Per passage in the lexical index, measured on 5M synthetic passages of 100 words (`python -m benchmarks.lexical`)."""
DIMENSIONS = (384, 768)
SHARD = 1_000_000
HNSW_LINKS = 66
"""Links per vector in HNSW32, upper layers included, of 4 bytes each (FAISS: M * 2 + 2)."""
WIDTHS = (576, 1024)


def size(number: float) -> str:
    """Bytes in GB or TB."""
    return f"{number / 1e12:.2f} TB" if number >= 1e12 else f"{number / 1e9:,.1f} GB"


def disk() -> str:
    """Disk space."""
    each: dict[str, float] = {"passages: text, title, ids, offsets": TEXT_BYTES, "lexical index": LEXICAL_BYTES}
    for d in DIMENSIONS:
        each |= {
            f"vectors d = {d}, float16": 2 * d,
            f"vectors d = {d}, int8": d + 4,
            f"FAISS flat d = {d}, float16": 2 * d,
            f"FAISS hnsw d = {d}, float16": 2 * d + 4 * HNSW_LINKS,
            f"FAISS ivfpq d = {d}": d / 8 + 8,
        }
    for width in WIDTHS:
        each |= {
            f"encodings E = {width}, bf16": 2 * width * TOKENS,
            f"encodings E = {width}, int8": (width + 4) * TOKENS,
        }
    rows = [(what, f"{number:,.0f}", size(number * PASSAGES)) for what, number in each.items()]
    return markdown(("what", "bytes per passage", "200M passages"), rows)


def embedding(rate: float, cards: int) -> str:
    """GPUs, hours and bytes moved."""
    hours = PASSAGES / rate / 3600
    rows = [
        (number, f"{hours / number:,.1f}", size(TEXT_BYTES * PASSAGES), size(2 * 384 * PASSAGES))
        for number in (1, cards, 8 * cards)
    ]
    return markdown(("cards", "hours", "text read", "vectors written (d = 384, float16)"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rate", type=float, default=5000, help="passages of 256 tokens that one card embeds per second"
    )
    parser.add_argument("--cards", type=int, default=8)
    options = parser.parse_args()
    print(f"## Disk\n\n{disk()}\n\n## Embedding at {options.rate:,.0f} passages/s per card\n")
    print(embedding(options.rate, options.cards))


if __name__ == "__main__":
    main()
