"""Split a question into the simpler questions that lead to its answer, by the decoder or a chat model."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ragx.config import SamplingParams
from ragx.reader.base import Reader, choose_reader
from ragx.reader.task import Task
from ragx.types import ReaderName

MOST_PARTS = 4
SPLITTING = Task(
    "Which simpler questions must be answered first to answer this question? Write one question a line.",
    examples=(
        (
            "Which of the two bridges over the Elder is older, Mill Bridge or the Long Bridge?",
            "When was Mill Bridge over the Elder built?\nWhen was the Long Bridge over the Elder built?",
        ),
        (
            "In which town was the author of The Salt Road born?",
            "Who is the author of The Salt Road?\nWhere was the author of The Salt Road born?",
        ),
    ),
)
_SAMPLING = SamplingParams(max_new_tokens=96)
_MARK = re.compile(r"^\W*\d{0,2}\W*(?=\w)")
_WORD = re.compile(r"\w{4,}")


def split_question(readers: Mapping[ReaderName, Reader], question: str) -> list[str]:
    """Up to four simpler questions; none if the model writes nothing but the question.

    What has no word in common with the question is left out: small decoders also repeat examples.

    Raises:
        ConfigError: the question does not fit into the decoder's window.
        EndpointError: the API fails.
    """
    reader = readers.get("full") or choose_reader(readers, None)
    prepared = reader.prepare(question, [], prompt_passages=0, sampling=_SAMPLING, task=SPLITTING)
    whole = set(_WORD.findall(question.lower()))
    parts = dict.fromkeys(_MARK.sub("", line).strip() for line in reader.decode(prepared, _SAMPLING).splitlines())
    return [
        part for part in parts if part.endswith("?") and part != question and whole & {*_WORD.findall(part.lower())}
    ][:MOST_PARTS]
