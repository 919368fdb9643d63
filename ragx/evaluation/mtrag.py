"""MTRAG's tasks (Katsis et al., arXiv 2501.03468): the next turn of a conversation about passages.

A row has `task_id`, `input` (turns with `speaker` and `text`, the last one a question), `contexts` (passages, best
first), `targets` (reference answers) and `answerability`. Predictions are the same rows with `predictions`, for the
benchmark's own judges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ragx.config import ReaderOptions, SamplingParams
from ragx.errors import ConfigError, CorpusError
from ragx.evaluation import metrics
from ragx.evaluation.bootstrap import percent
from ragx.evaluation.own_passages import is_refusal
from ragx.evaluation.results import Results, Values
from ragx.evaluation.tables import Cell, Table
from ragx.types import Hit, Message, Passage
from ragx.util.files import durable_file
from ragx.util.jsonlines import load_objects
from ragx.util.text import first_line

if TYPE_CHECKING:
    from ragx.rag import RAG

TASK = "mtrag"
"""What the raw results are of."""
_SHARES = ("f1", "refused", "cited")
"""Values of each turn in the table."""


@dataclass(frozen=True)
class Turn:
    """A task."""

    key: str
    question: str
    history: list[Message]
    hits: list[Hit]
    """Its own contexts."""
    targets: list[str]
    """Reference answers, if the file has them."""
    answerability: str
    row: dict[str, Any]
    """As in the file."""


def read_tasks(path: Path) -> list[Turn]:
    """The tasks of a file of JSON lines, compressed or not.

    Raises:
        CorpusError: the file cannot be read, has no task, or a line is none.
    """
    turns = [_turn(row, where) for where, row in load_objects(path)]
    if not turns:
        raise CorpusError(f"{path} has no task")
    return turns


def _turn(row: dict[str, Any], where: str) -> Turn:
    try:
        *before, last = [(str(turn["speaker"]), str(turn["text"])) for turn in row["input"]]
        if last[0] != "user":
            raise ValueError("the last turn of `input` is not the user's")
        hits = [_hit(context) for context in row.get("contexts") or []]
        targets = [str(target["text"]) for target in row.get("targets") or []]
        answerability = row.get("answerability") or ["unknown"]
        return Turn(
            str(row["task_id"]),
            last[1],
            [Message("user" if speaker == "user" else "assistant", text) for speaker, text in before],
            hits,
            targets,
            str(answerability[0] if isinstance(answerability, list) else answerability).lower(),
            row,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{where} is no task of MTRAG: {first_line(error)}") from None


def _hit(context: dict[str, Any]) -> Hit:
    document, text = str(context["document_id"]), str(context["text"])
    title = str(context.get("title") or "")
    passage = Passage(document, document, title, text, 0, 0, len(text), str(context.get("source") or ""))
    return Hit(passage, float(context.get("score") or 0.0))


def evaluate(
    rag: RAG,
    turns: Sequence[Turn],
    results: Results,
    *,
    k: int | None,
    options: ReaderOptions,
    sampling: SamplingParams,
) -> dict[str, Values]:
    """Answer each turn after those before it.

    Args:
        rag: the readers, and an index if `k` is given.
        turns: tasks.
        results: raw results, to continue.
        k: passages to retrieve and read; None: each turn's own contexts are read.
        options: how to read them.
        sampling: how to decode.

    Returns:
        What was measured, by the task's key.

    Raises:
        ConfigError: a question does not fit into the decoder's window.
        EndpointError: an API fails; results so far are kept.
    """

    def measure(turn: Turn) -> Values:
        if k is None:
            answer = rag.read(turn.question, turn.hits, history=turn.history, options=options, sampling=sampling)
        else:
            answer = rag.ask(turn.question, history=turn.history, k=k, sampling=sampling, **options.model_dump())
        return {
            "answer": answer.text,
            "contexts": None if k is None else [_context(hit) for hit in answer.hits],
            "f1": metrics.f1(answer.text, turn.targets) if turn.targets else None,
            "refused": is_refusal(answer),
            "cited": answer.supported,
        }

    return {
        turn.key: results.measure(TASK, turn.key, partial(measure, turn))
        for turn in tqdm(turns, desc="answering", unit=" turns")
    }


def _context(hit: Hit) -> dict[str, Any]:
    score = hit.score if hit.rerank_score is None else hit.rerank_score
    return {
        "document_id": hit.passage.document,
        "title": hit.passage.title,
        "text": hit.passage.text,
        "score": score,
        "source": hit.passage.source,
    }


def save_predictions(path: Path, turns: Sequence[Turn], measured: Mapping[str, Values]) -> None:
    """Write the tasks with their predictions, and with the passages found, if an index was searched.

    Raises:
        ConfigError: the file cannot be written.
    """
    with durable_file(path, ConfigError) as file:
        for turn in turns:
            values = measured[turn.key]
            found = {} if values["contexts"] is None else {"contexts": values["contexts"]}
            row = turn.row | found | {"predictions": [{"text": values["answer"]}]}
            file.write(json.dumps(row).encode() + b"\n")


def table(turns: Sequence[Turn], measured: Mapping[str, Values]) -> Table:
    """A row for each kind of task, by whether its passages hold the answer, and for all."""
    groups: dict[str, list[Values]] = {}
    for turn in turns:
        for name in (turn.answerability, "all"):
            groups.setdefault(name, []).append(measured[turn.key])
    names = sorted(groups, key=lambda name: (name == "all", name))
    rows: list[list[Cell]] = [
        [name, len(groups[name]), *(_share([each[value] for each in groups[name]]) for value in _SHARES)]
        for name in names
    ]
    notes = [
        "F1 of words against the reference answer, normalised as in SQuAD; refused: the answer says that no passage"
        " holds it; cited: a passage supports a sentence of it. 95 % intervals over turns. The benchmark's own metrics"
        " are computed by its judges from --predictions."
    ]
    return Table({"answerability": 0, "turns": 0, "F1 (%)": 1, "refused (%)": 1, "cited (%)": 1}, rows, notes)


def _share(values: Sequence[float | None]) -> Cell:
    known = [float(value) for value in values if value is not None]
    return percent(known) if known else None
