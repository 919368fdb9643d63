"""Which queries find the passage that a question in a conversation asks for.

    python -m benchmarks.follow_ups

Prints a table. 24 things with 8 facts each are 192 passages. A conversation asks two questions about one thing, then
one that leans on them ("And how heavy is it?"), one about the same thing that stands alone, or one about another thing.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.tables import markdown
from ragx.config import IndexSettings
from ragx.index import Index, build_index
from ragx.retrieval import Retriever, open_embedder
from ragx.types import Passage, SearchMethod

THINGS = (
    "pump P-40", "mountain hut", "Aurora ferry", "Larsen bridge", "Kestrel drone", "tide mill", "Nimbus telescope",
    "salt depot", "Orchard tram", "glass kiln", "Vega lathe", "harbour crane", "peat boiler", "signal tower",
    "Delta combine", "ice chamber", "Corvus printer", "stone quarry", "Meridian bus", "wool loom", "Halley antenna",
    "river lock", "Quartz oven", "apple press",
)  # fmt: skip
FACTS = {
    "weight": ("It weighs {n} kg without its load.", "What does the {thing} weigh?", "And how heavy is it?"),
    "owner": ("It belongs to the family {name}.", "Who owns the {thing}?", "And who owns it?"),
    "year": ("It was built in 19{n}.", "When was the {thing} built?", "When was that built?"),
    "key": ("Its key hangs in box {n}.", "Where is the key of the {thing}?", "Where is the key?"),
    "cost": ("A day's hire costs {n} euros.", "What does a day with the {thing} cost?", "What does a day cost?"),
    "power": ("It draws {n} kilowatts at full load.", "How much power does the {thing} draw?", "How much power?"),
    "repair": ("{name} repairs it within two days.", "Who repairs the {thing}?", "Who repairs it when it breaks?"),
    "winter": ("In winter it is closed from week {n}.", "When does the {thing} close in winter?", "And in winter?"),
}
NAMES = ("Hagen", "Brandt", "Moreau", "Silva", "Novak", "Ito", "Okafor", "Lindqvist")

Queries = Callable[[str, Sequence[str]], list[tuple[str, float]]]
"""Queries for a question after others, and their weights."""
WAYS: dict[str, Queries] = {
    "question alone": lambda question, before: [(question, 1)],
    "joined with the two before": lambda question, before: [("\n".join([*before, question]), 1)],
    "joined, question twice": lambda question, before: [("\n".join([*before, question, question]), 1)],
    "both, fused": lambda question, before: [(question, 1), ("\n".join([*before, question]), 1)],
    "both, fused, question twice": lambda question, before: [
        (question, 1),
        ("\n".join([*before, question, question]), 1),
    ],
    "both, fused, alone weighs 2": lambda question, before: [(question, 2), ("\n".join([*before, question]), 1)],
    "both, fused, alone weighs 1/2": lambda question, before: [(question, 0.5), ("\n".join([*before, question]), 1)],
}
TOP = 5


def passages() -> list[Passage]:
    chance = random.Random(0)
    made = []
    for thing, fact in itertools.product(THINGS, FACTS):
        text = f"The {thing}. {FACTS[fact][0].format(n=chance.randrange(10, 99), name=chance.choice(NAMES))}"
        made.append(Passage(f"{thing}#{fact}", thing, "", text, 0, 0, len(text), ""))
    return made


def conversations() -> dict[str, list[tuple[list[str], str, str]]]:
    """Questions before, the question and the passage it asks for, by kind."""
    chance = random.Random(1)
    kinds: dict[str, list[tuple[list[str], str, str]]] = {"follow-up": [], "same topic": [], "new topic": []}
    for thing in THINGS:
        first, second, *rest = chance.sample(list(FACTS), 5)
        other = chance.choice([each for each in THINGS if each != thing])
        before = [FACTS[first][1].format(thing=thing), FACTS[second][1].format(thing=thing)]
        for fact in rest:
            kinds["follow-up"].append((before, FACTS[fact][2], f"{thing}#{fact}"))
            kinds["same topic"].append((before, FACTS[fact][1].format(thing=thing), f"{thing}#{fact}"))
            kinds["new topic"].append((before, FACTS[fact][1].format(thing=other), f"{other}#{fact}"))
    return kinds


def run() -> str:
    embedder = open_embedder(IndexSettings().embedder)
    rows = []
    with TemporaryDirectory() as folder:
        build_index(passages(), Path(folder) / "index", embedder, IndexSettings(), quiet=True)
        retriever = Retriever(Index.open(Path(folder) / "index"), embedder)
        methods: tuple[SearchMethod, ...] = ("hybrid", "dense", "bm25")
        for method, (name, way) in itertools.product(methods, WAYS.items()):
            cells = []
            for kind in conversations().values():
                ranks = [rank(retriever, method, way(question, before), id) for before, question, id in kind]
                first, top = (sum(at <= most for at in ranks) / len(ranks) for most in (1, TOP))
                cells.append(f"{first:.0%} / {top:.0%}")
            rows.append([method, name, *cells])
    return markdown(["method", "queries", *conversations()], rows)


def rank(retriever: Retriever, method: SearchMethod, queries: list[tuple[str, float]], id: str) -> int:
    """The rank of a passage where the rankings of queries are fused, from 1."""
    scores: dict[str, float] = {}
    for query, weight in queries:
        for at, hit in enumerate(retriever.search(query, 60, method), start=1):
            scores[hit.passage.id] = scores.get(hit.passage.id, 0.0) + weight / (60 + at)
    ranked = sorted(scores, key=lambda each: -scores[each])
    return ranked.index(id) + 1 if id in scores else len(scores) + 1


if __name__ == "__main__":
    print(run())
