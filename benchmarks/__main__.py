"""Run the named benchmarks, by default all, and print their tables as Markdown."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version

import torch

from benchmarks import chat, cross_attention, first_token, indexing, retrieval

BENCHMARKS = {
    "indexing": indexing.run,
    "first-token": first_token.run,
    "cross-attention": cross_attention.run,
    "retrieval": retrieval.run,
    "chat": chat.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"benchmarks to run: {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "sentence-transformers"))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {packages}\n")
    for name in names:
        print(f"## {name}\n", flush=True)
        print(BENCHMARKS[name](), flush=True)
        print()


if __name__ == "__main__":
    main()
