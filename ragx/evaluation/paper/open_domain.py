"""The questions of Table 7, in the authors' files, and its prompt: demonstrations, documents, question."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragx.errors import CorpusError
from ragx.evaluation.paper.contest import data_name
from ragx.util.compressed import UNREADABLE, open_bytes
from ragx.util.jsonlines import load_objects
from ragx.util.text import first_line

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer


@dataclass(frozen=True)
class Document:
    """A retrieved document."""

    title: str
    text: str
    score: float = 0.0

    @property
    def block(self) -> str:
        """As it stands in a prompt, or in a row of the encoder."""
        return f"Document: {self.title}\n{self.text}\n\n" if self.title else f"Document:\n{self.text}\n\n"


@dataclass(frozen=True)
class Item:
    """A question with its answers and documents, best first."""

    source: str
    text: str
    answers: list[str]
    documents: list[Document]

    @property
    def key(self) -> str:
        """Digest of the row."""
        content = json.dumps([self.text, self.answers, [[each.title, each.text] for each in self.documents]])
        return f"{self.source} {hashlib.sha256(content.encode()).hexdigest()[:16]}"


def read_items(path: Path) -> list[Item]:
    """Rows with `question`, `answers` or `answer`, and `ctxs` with `title`, `text` and `score`: a JSON list or lines.

    Raises:
        CorpusError: the file cannot be read, or a row has no question or answer.
    """
    items = [_item(row, where, data_name(path)) for where, row in _rows(path)]
    if not items:
        raise CorpusError(f"{path} has no question")
    return items


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with open_bytes(path) as file:
            is_list = file.read(64).lstrip().startswith(b"[")
        if is_list:
            with open_bytes(path) as file:
                rows = json.load(file)
            yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, start=1))
            return
    except (*UNREADABLE, ValueError, RecursionError) as error:
        raise CorpusError(f"{path} cannot be read: {getattr(error, 'strerror', None) or first_line(error)}") from None
    yield from load_objects(path)


def _item(row: dict[str, Any], where: str, source: str) -> Item:
    try:
        answers = row.get("answers") or row["answer"]
        documents = [
            Document(str(each.get("title") or ""), str(each["text"]), float(each.get("score") or 0))
            for each in row.get("ctxs") or []
        ]
        text = row["question"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorpusError(f"{where} is not a question with answers and `ctxs`: {first_line(error)}") from None
    answers = [answers] if isinstance(answers, str) else answers
    if not isinstance(text, str) or not isinstance(answers, list) or not all(isinstance(each, str) for each in answers):
        raise CorpusError(f"{where} is not a question with a list of answers")
    return Item(source, text, answers, documents)


def demonstrations(item: Item, pool: Sequence[Item], count: int, seed: int) -> list[Item]:
    """Items with an answer drawn for a question, always the same ones, and never the question itself."""
    others = [each for each in pool if each.text != item.text and each.answers]
    return random.Random(f"{seed} {item.text}").sample(others, min(count, len(others)))


def question_block(item: Item) -> str:
    """The end of a prompt."""
    return f"Question: {item.text}\nAnswer:"


def prompt_ids(
    tokenizer: Tokenizer, item: Item, examples: Sequence[Item], documents: Sequence[Document], room: int | None
) -> list[int]:
    """The start token; demonstrations, each with its best document; documents, best first; the question.

    If that exceeds `room` tokens, the documents are cut at their end, and then the demonstrations at their beginning.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    shots = "".join(
        f"{''.join(document.block for document in each.documents[:1])}{question_block(each)} {each.answers[0]}\n\n"
        for each in examples
    )
    blocks = "".join(document.block for document in documents)
    (inside,) = tokenizer.plain_ids([blocks])
    while True:
        ids = [*start, *tokenizer.plain_ids([f"{shots}{blocks}{question_block(item)}"])[0]]
        if room is None or len(ids) <= room:
            return ids
        if not inside:
            return [*start, *ids[len(ids) - room + len(start) :]]
        inside = inside[: max(0, len(inside) - (len(ids) - room))]
        blocks = tokenizer.decode(inside).rstrip("\n") + "\n\n" * bool(inside)


def encoder_row(tokenizer: Tokenizer, document: Document, most: int) -> list[int]:
    """A document in the encoder, its beginning cut off if it is longer than `most` tokens."""
    return tokenizer.plain_ids([document.block.rstrip("\n")])[0][-most:]
