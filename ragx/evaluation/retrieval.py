"""Retrieval against relevance judgements (qrels) in the layouts of TREC, BEIR and MS MARCO, scored by ir-measures."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from ragx.corpus.fields import ID_FIELDS
from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.bootstrap import mean
from ragx.evaluation.tables import Cell, Table
from ragx.util.jsonlines import BadLine, load_objects, read_lines

if TYPE_CHECKING:
    from ragx.evaluation.results import Results, Values
    from ragx.types import Hit

MEASURES = ("nDCG@10", "RR@10", "AP", "R@100")
"""In ir-measures' notation."""
COLUMNS = {"search": 0, **dict.fromkeys(MEASURES, 3), "ms": 0}


class Judgement(NamedTuple):
    """How relevant a document is to a query."""

    query_id: str
    doc_id: str
    relevance: int


def evaluate(
    queries: Mapping[str, str],
    qrels: Sequence[Judgement],
    searches: Mapping[str, Callable[[str], Sequence[Hit]]],
    results: Results,
    *,
    k: int,
) -> Table:
    """Mean scores over the queries with a relevant document, which is ranked by the best of its passages.

    Args:
        queries: texts by id.
        qrels: judgements of documents; those that have none are irrelevant.
        searches: by the name of their row; each finds the k best passages for a query.
        results: raw results: the measures and the seconds of each query.
        k: for the table's note.

    Raises:
        ConfigError: ir-measures is not installed, or no query has a relevant document.
    """
    try:
        import ir_measures
    except ImportError:
        raise ConfigError("`ragx eval retrieval` needs another package: pip install 'ragx[eval]'") from None
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    for judgement in qrels:
        judged[judgement.query_id][judgement.doc_id] = judgement.relevance
    wanted = [name for name in queries if any(grade > 0 for grade in judged[name].values())]
    if not wanted:
        raise ConfigError("no query has a document that is judged relevant: do the ids of the two files agree?")
    measures = [ir_measures.parse_measure(name) for name in MEASURES]

    def measure(name: str, search: Callable[[str], Sequence[Hit]]) -> Values:
        began = time.perf_counter()
        ranked = dict.fromkeys(hit.passage.document for hit in search(queries[name]))
        seconds = time.perf_counter() - began
        run = {name: {document: -float(place) for place, document in enumerate(ranked)}}
        scores = ir_measures.calc_aggregate(measures, {name: judged[name]}, run)
        return {str(each): float(scores[each]) for each in measures} | {"seconds": seconds}

    measured: dict[str, list[Values]] = {setting: [] for setting in searches}
    for name in tqdm(wanted, unit=" queries"):
        for setting, search in searches.items():
            measured[setting].append(results.measure(setting, name, partial(measure, name, search)))
    rows: list[list[Cell]] = [
        [
            setting,
            *(mean([each[name] for each in values]) for name in MEASURES),
            mean([1000 * each["seconds"] for each in values]),
        ]
        for setting, values in measured.items()
    ]
    note = f"{len(wanted)} queries, {k} passages each, 95 % intervals by bootstrap over queries."
    return Table(COLUMNS, rows, [note])


def read_queries(path: Path) -> dict[str, str]:
    """Texts by id: JSON lines with an id and `question`, `text` or `query` (BEIR), or lines `id<TAB>text` (MS MARCO).

    Raises:
        CorpusError: the file cannot be read, is empty or in another layout; names file and line.
    """
    queries: dict[str, str] = {}
    if ".json" in "".join(path.suffixes).lower():
        for where, row in load_objects(path):
            name = next((row[key] for key in ID_FIELDS if key in row), None)
            text = next((row[key] for key in ("question", "text", "query") if isinstance(row.get(key), str)), None)
            if name is None or text is None:
                raise CorpusError(f"{where} has no id or no question")
            queries[str(name)] = text
    else:
        for where, line in _lines(path):
            name, tab, text = line.partition("\t")
            if not tab:
                raise CorpusError(f"{where} is not an id, a tab and a query")
            queries[name] = text
    if not queries:
        raise CorpusError(f"{path} has no query")
    return queries


def read_qrels(path: Path) -> list[Judgement]:
    """Lines of TREC (`query 0 document grade`) or of BEIR (`query document grade`, with or without a header).

    Raises:
        CorpusError: the file cannot be read, is empty or in another layout; names file and line.
    """
    qrels: list[Judgement] = []
    for where, line in _lines(path):
        fields = line.split("\t") if "\t" in line else line.split()
        if not qrels and len(fields) == 3 and fields[0] in ("query-id", "query_id", "qid"):
            continue
        try:
            if len(fields) not in (3, 4):
                raise ValueError
            qrels.append(Judgement(fields[0], fields[-2], int(fields[-1])))
        except ValueError:
            raise CorpusError(f"{where} is not a judgement of a query and a document") from None
    if not qrels:
        raise CorpusError(f"{path} has no judgement")
    return qrels


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with `path:line`."""
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        if isinstance(line, BadLine):
            raise CorpusError(f"{path if line.unreadable else where} {line.reason}")
        if text := line.decode("utf-8-sig", "replace").rstrip("\r\n").strip(" "):
            yield where, text
