"""Which files of a folder hold texts, and which hold questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from ragx.errors import ConfigError
from ragx.index import Index
from ragx.reader.prompt import passage_text
from ragx.util.files import durable_file
from ragx.util.jsonlines import load_objects
from ragx_train.data.questions import QuestionFile, QuestionSettings, existing
from ragx_train.data.sources import READABLE, ROWS, expand
from ragx_train.errors import OutputError
from ragx_train.recipes.reader.options import QUESTIONS, ReaderData
from ragx_train.settings import DocumentSettings, Mixture

SHORT: dict[str, Any] = {"mix": Mixture(filter=0, cat=1), "test": 0.1}
"""How texts of unknown length are used: joined, so that short ones are too."""


def find_files(data: ReaderData, out: Path) -> ReaderData:
    """The settings with texts and questions that are in `data.folder`, or the texts of the index, written to `out`.

    Raises:
        ConfigError: `data.folder` is not a folder.
        CorpusError: a file cannot be read.
        IndexFolderError: there is no index, or it is damaged.
    """
    texts, questions = data.texts, data.questions
    if data.folder is not None:
        found_texts, found_questions = _files(Path(data.folder).expanduser())
        if texts is not None:
            texts = texts.model_copy(update={"folder": data.folder})
        elif found_texts:
            texts = DocumentSettings(folder=data.folder, sources=list(found_texts), **SHORT)
        if questions is not None:
            questions = questions.model_copy(update={"folder": data.folder})
        elif found_questions:
            files = [QuestionFile(path=path) for path in found_questions]
            questions = QuestionSettings(folder=data.folder, files=files, **QUESTIONS)
    if texts is None and data.index is not None:
        path = _write_documents(Path(data.index).expanduser(), out / "questions" / "documents.jsonl")
        texts = DocumentSettings(sources=[str(path.absolute())], **SHORT)
    return data.model_copy(update={"texts": texts, "questions": questions})


def check_files(data: ReaderData) -> None:
    """Check that the files with texts and questions exist.

    Raises:
        ConfigError: one of them does not.
    """
    texts, questions = data.texts, data.questions
    if texts is not None:
        for source in texts.sources:
            expand(data.folder or texts.folder, source)
    if questions is not None:
        existing(data.folder or questions.folder, [file.path for file in questions.files])


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """The readable files below a folder with texts, and those with questions, by their first row."""
    if not folder.is_dir():
        raise ConfigError(f"--data {folder} is not a folder")
    texts, questions = [], []
    for file in sorted(folder.rglob("*")):
        if not file.name.endswith(READABLE) or not file.is_file():
            continue
        rows = load_objects(file) if file.name.endswith(ROWS) else iter([("", {"text": ""})])
        first = next((row for _, row in rows), {})
        if "question" in first:
            questions.append(str(file.relative_to(folder)))
        elif "text" in first:
            texts.append(str(file.relative_to(folder)))
    return texts, questions


def _write_documents(index: Path, out: Path) -> Path:
    """The texts of an index as JSON lines."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with durable_file(out, OutputError) as file:
            for row in documents(Index.open(index)):
                file.write(json.dumps(row).encode() + b"\n")
    return out


def documents(index: Index) -> Iterator[dict[str, str]]:
    """The text of each document of an index as a row of documents."""
    for name, passages in groupby(index.live_passages(), lambda passage: passage.document):
        yield {"text": "\n".join(passage_text(passage) for passage in passages), "domain": "index", "title": name}
