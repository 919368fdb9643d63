"""Whether a search finds all the passages that a question needs, by their number and by effort."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import mean, percent
from ragx.evaluation.tables import Cell, Table
from ragx.util.text import counted

if TYPE_CHECKING:
    from ragx.corpus.questions import Question
    from ragx.evaluation.results import Results, Values
    from ragx.index import Index
    from ragx.types import Effort, Hit

COLUMNS = {"needed": 0, "questions": 0, "effort": 0, "all found (%)": 1, "found (%)": 1, "ms": 0}


def evaluate(
    questions: Sequence[Question],
    index: Index,
    searches: Mapping[Effort, Callable[[str], Sequence[Hit]]],
    results: Results,
    *,
    k: int,
) -> Table:
    """The share of questions all of whose gold passages are found, and of the gold passages, by number and effort.

    A gold passage counts as found with a hit that is part of it, or holds it, and has its title.

    Args:
        questions: with gold passages; those with one that the index lacks are left out.
        index: what is searched.
        searches: by effort; each finds the k best passages for a question.
        results: raw results: how many gold passages were found, and the seconds of each search.
        k: how many passages; for the table's note.

    Raises:
        ConfigError: the index has the gold passages of no question.
    """
    needed = _needed(questions, index)
    if not needed:
        raise ConfigError(f"the index has all gold passages of none of the {counted(len(questions), 'question')}")
    by_number: dict[int, dict[Effort, list[Values]]] = defaultdict(lambda: defaultdict(list))
    for question, gold in tqdm(needed, unit=" questions"):
        for effort, search in searches.items():
            values = results.measure(effort, question.key, partial(_measure, search, question.text, gold))
            by_number[len(gold)][effort].append(values)
    rows = [_row(number, effort, by_number[number][effort]) for number in sorted(by_number) for effort in searches]
    note = f"k = {k}; {counted(len(needed), 'question')}, 95 % intervals by bootstrap over questions."
    if left_out := len(questions) - len(needed):
        note += f" {counted(left_out, 'question')} without gold passages in the index left out."
    return Table(COLUMNS, rows, [note])


def _needed(questions: Sequence[Question], index: Index) -> list[tuple[Question, list[set[str]]]]:
    """Questions, and for each gold passage the ids of the index's passages that are part of it or hold it."""
    titles = {passage.title for question in questions for passage in question.gold}
    by_title: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for passage in index.live_passages():
        if passage.title in titles:
            by_title[passage.title].append((passage.id, _plain(passage.text)))
    found = []
    for question in questions:
        gold = [
            {
                name
                for name, text in by_title[passage.title]
                if text in _plain(passage.text) or _plain(passage.text) in text
            }
            for passage in question.gold
        ]
        if gold and all(gold):
            found.append((question, gold))
    return found


def _plain(text: str) -> str:
    return " ".join(text.split())


def _measure(search: Callable[[str], Sequence[Hit]], question: str, gold: Sequence[set[str]]) -> Values:
    began = time.perf_counter()
    hits = search(question)
    seconds = time.perf_counter() - began
    ids = {hit.passage.id for hit in hits}
    return {"found": sum(not ids.isdisjoint(each) for each in gold), "seconds": seconds}


def _row(number: int, effort: Effort, values: Sequence[Values]) -> list[Cell]:
    found = [int(each["found"]) for each in values]
    return [
        number,
        len(found),
        effort,
        percent([float(each == number) for each in found]),
        percent([each / number for each in found]),
        mean([1000 * each["seconds"] for each in values]),
    ]
