"""The inputs of Table 4, after ZeroSCROLLS (Shaham et al., 2023): long texts, questions about them, and prompts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.paper.open_domain import Document
from ragx.util.jsonlines import load_objects

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

Measure = Literal["F1", "accuracy", "ROUGE-L"]


@dataclass(frozen=True)
class Task:
    """What is asked about a text, and how answers are scored."""

    instruction: str
    asks: str
    """What introduces the question; empty: there is none."""
    answers: str
    """What introduces the answer."""
    measure: Measure = "F1"
    sampled: bool = False
    """Answers are sampled several times instead of decoded greedily."""


TASKS = {
    "narrativeqa": Task(
        "Above is a story. Answer the question about it in as few words as possible.", "Question:", "Answer:"
    ),
    "qasper": Task(
        "Above is a scientific article. Answer the question about it with a phrase or a sentence, or with yes or no if"
        ' that is enough. If the article does not tell, answer "unanswerable".',
        "Question:",
        "Answer:",
    ),
    "quality": Task(
        "Above is a text. Below are a question about it and four possible answers. Answer with the letter of the right"
        " one.",
        "Question and possible answers:",
        "Answer:",
        "accuracy",
    ),
    "musique": Task(
        "Above are several paragraphs. Answer the question from them in as few words as possible. If they do not tell,"
        ' answer "unanswerable".',
        "Question:",
        "Answer:",
    ),
    "govreport": Task("Above is a government report. Summarise it in a page.", "", "Summary:", "ROUGE-L", sampled=True),
    "summscreen": Task("Above is the script of a TV episode. Summarise it in a paragraph.", "", "Summary:", "ROUGE-L"),
    "qmsum": Task(
        "Above is the transcript of a meeting. Answer the query about it in one or more sentences.",
        "Query:",
        "Answer:",
        "ROUGE-L",
    ),
    "squality": Task(
        "Above is a story. Answer the question about it in a paragraph.", "Question:", "Answer:", "ROUGE-L"
    ),
}
"""By name; the wording is ours, the text comes first as in the paper."""


@dataclass(frozen=True)
class LongInput:
    """A text, a question about it, and all answers that are right."""

    task: str
    text: str
    question: str
    answers: list[str]

    @property
    def key(self) -> str:
        """Digest of the row."""
        content = json.dumps([self.text, self.question, self.answers])
        return f"{self.task} {hashlib.sha256(content.encode()).hexdigest()[:16]}"

    @property
    def request(self) -> str:
        """The end of the prompt, after the text."""
        task = TASKS[self.task]
        question = f"{task.asks} {self.question}\n\n" if task.asks else ""
        return f"\n\n{task.instruction}\n\n{question}{task.answers}"


def parse_source(source: str) -> tuple[str, Path]:
    """Task and file of `TASK=FILE`.

    Raises:
        ConfigError: there is no such task.
    """
    task, equals, path = source.partition("=")
    if not equals or task not in TASKS:
        raise ConfigError(f"--data must be TASK=FILE, with a task of {', '.join(TASKS)}, got {source!r}")
    return task, Path(path)


def read_inputs(task: str, path: Path, limit: int | None) -> list[LongInput]:
    """The first of the rows with `input` (or `ctxs`, as in Table 7), `question` and `answers`.

    Also rows as SCROLLS has them, with `id`, `output` and an `input` that begins with the question, where rows with
    the same id are the answers to one question; and those of QMSum, a meeting each with its queries.

    Raises:
        CorpusError: the file cannot be read, has no row, or a row lacks something.
    """
    found: dict[str, LongInput] = {}
    for where, row in load_objects(path):
        items = _items(task, row)
        if not items:
            raise CorpusError(f"{where} is not an `input` with its `question` and `answers`")
        for number, item in enumerate(items):
            key = str(row["id"]) if "output" in row and row.get("id") else f"{where} {number}"
            if key in found:
                found[key].answers.extend(item.answers)
            else:
                found[key] = item
    if not found:
        raise CorpusError(f"{path} has no text")
    return list(found.values())[:limit]


def _items(task: str, row: dict[str, Any]) -> list[LongInput]:
    """What a row asks; empty: it has an unknown form."""
    if task == "qmsum" and ("queries" in row or "meeting_transcripts" in row):
        return _meeting(task, row)
    item = _scrolls(task, row) if "output" in row else _plain(task, row)
    return [] if item is None else [item]


def _plain(task: str, row: dict[str, Any]) -> LongInput | None:
    text, question = row.get("input"), row.get("question", "")
    answers = row.get("answers") or row.get("answer")
    if text is None and isinstance(row.get("ctxs"), list):
        blocks = [Document(str(each.get("title") or ""), str(each.get("text") or "")).block for each in row["ctxs"]]
        text = "".join(blocks).rstrip("\n")
    answers = [answers] if isinstance(answers, str) else answers
    if not isinstance(text, str) or not isinstance(question, str) or (TASKS[task].asks and not question):
        return None
    if not isinstance(answers, list) or not answers or not all(isinstance(each, str) for each in answers):
        return None
    return LongInput(task, text, question, list(answers))


def _meeting(task: str, row: dict[str, Any]) -> list[LongInput]:
    """A meeting as QMSum has it, with its general queries first, or with `text` and `queries`."""
    try:
        turns = row.get("meeting_transcripts", [])
        text = row.get("text") or "\n".join(f"{turn['speaker']}: {turn['content']}" for turn in turns)
        queries = row.get("queries") or [*row.get("general_query_list", []), *row.get("specific_query_list", [])]
        asked = [(str(query["query"]), str(query["answer"])) for query in queries]
    except (KeyError, TypeError):
        return []
    return (
        [LongInput(task, text, question, [answer]) for question, answer in asked]
        if text and isinstance(text, str)
        else []
    )


def _scrolls(task: str, row: dict[str, Any]) -> LongInput | None:
    text, output = row.get("input"), row["output"]
    if not isinstance(text, str) or not isinstance(output, str):
        return None
    if not TASKS[task].asks:
        return LongInput(task, text, "", [output])
    end = r"\(D\)[^\n]*" if TASKS[task].measure == "accuracy" else ""
    match = re.match(rf"(.+?{end})\n\s*\n(.+)", text, re.DOTALL)
    return LongInput(task, match[2], match[1].strip(), [output]) if match else None


def divide(
    tokenizer: Tokenizer, item: LongInput, *, in_decoder: int, in_encoder: int | None
) -> tuple[list[int], list[int], int]:
    """A prompt's tokens in the encoder, those in the decoder, and where the request begins among these.

    Args:
        tokenizer: the decoder's.
        item: what to ask.
        in_decoder: the last tokens, after the start token.
        in_encoder: those before; None: all.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    text, request = tokenizer.plain_ids([item.text, item.request])
    ids = [*text, *request]
    place = max(0, len(ids) - (in_decoder - len(start)))
    first = 0 if in_encoder is None else max(0, place - in_encoder)
    inside = [*start, *ids[place:]]
    return ids[first:place], inside, max(len(start), len(inside) - len(request))


def choices(question: str) -> dict[str, str]:
    """The possible answers in a question, by letter."""
    found: Sequence[tuple[str, str]] = re.findall(r"\(([A-Z])\)\s*(.*?)\s*(?=\([A-Z]\)|\Z)", question, re.DOTALL)
    return dict(found)
