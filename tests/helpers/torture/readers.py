"""Processes that search an index while it is updated."""

from __future__ import annotations

import json
import os
import random
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from ragx.config import IndexSettings
from ragx.index import Index, update_index
from ragx.retrieval import Retriever
from tests.helpers.torture.index import forked
from tests.helpers.toy_embedders import WordEmbedder, passage

READERS = 8


def readers(work: Path, updates: int, queries: int) -> dict[str, int]:
    """Search an index in several processes while all its passages are replaced again and again by another edition."""
    folder, done = work / "index", work / "updated"

    def edition(number: int) -> list[Any]:
        return [passage(n, f"snow {n} edition {number}") for n in range(30)]

    def read(seed: int) -> Counter[str]:
        rng = random.Random(seed)
        figures: Counter[str] = Counter(queries=0, mixed=0, exceptions=0)
        seen = set()
        while figures["queries"] < queries / READERS or not done.exists():
            try:
                retriever = Retriever(Index.open(folder), WordEmbedder())
                for _ in range(rng.randint(1, 8)):
                    hits = retriever.search(f"snow {rng.randrange(30)}", 30, rng.choice(["dense", "bm25", "hybrid"]))
                    editions = {hit.passage.text.split()[-1] for hit in hits}
                    figures["queries"] += 1
                    figures["mixed"] += len(hits) != 30 or len(editions) != 1
                    seen |= editions
            except Exception:
                traceback.print_exc()
                figures["exceptions"] += 1
        figures["editions"] = len(seen)
        return figures

    forked(lambda: update_index(folder, WordEmbedder(), add=edition(0), create=IndexSettings(shard_size=7), quiet=True))
    children = []
    for seed in range(READERS):
        if (child := os.fork()) == 0:
            (work / f"reader-{seed}").write_text(json.dumps(read(seed)))
            os._exit(0)
        children.append(child)
    for number in range(1, updates + 1):
        forked(lambda: update_index(folder, WordEmbedder(), add=edition(number), quiet=True))  # noqa: B023
    done.touch()
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    total: Counter[str] = Counter(readers=READERS, updates=updates, died=sum(code != 0 for code in codes))
    results = [json.loads((work / f"reader-{seed}").read_text()) for seed in range(READERS)]
    for figures in results:
        total.update({name: count for name, count in figures.items() if name != "editions"})
    total["editions_seen_by_one_reader"] = max(figures["editions"] for figures in results)
    return dict(total)
