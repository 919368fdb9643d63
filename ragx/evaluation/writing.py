"""Questions that a model writes about passages, with its own answers, where the passages support them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ragx.config import SamplingParams
from ragx.evaluation.content_words import content_words, supports
from ragx.reader.prompt import passage_text
from ragx.reader.task import ANSWER, PLAIN, Task
from ragx.util.sentences import sentence_spans

if TYPE_CHECKING:
    from ragx.reader.base import PreparedPrompt, Reader
    from ragx.types import Passage

EXAMPLES = """Write a question for each text.

Text: Luanda, on the coast, is the capital and largest city of Angola.
Question: What is the capital of Angola?

Text: Marie Curie won the Nobel Prize in Physics in 1903 with her husband.
Question: When did Marie Curie win the Nobel Prize in Physics?

"""
"""Small decoders ask real questions only if they have seen some."""
LEAST_WORDS, MOST_WORDS = 4, 40
"""Content words of a sentence that a question is written about."""


def write_questions(passages: Sequence[Passage], reader: Reader, *, max_tokens: int) -> list[dict[str, Any]]:
    """A question about each passage with the model's answer, where the passage supports the answer.

    The question is about one sentence, because small decoders ask and answer far better about a sentence than about a
    passage.

    Args:
        passages: at least one; they are written about at once.
        reader: one that puts passages in its prompt.
        max_tokens: longer questions and answers are left out.

    Returns:
        Rows of a file of questions: `question`, `answers`, `title` and `context`.
    """
    sampling = SamplingParams(max_new_tokens=max_tokens)
    with ThreadPoolExecutor(len(passages)) as waiting:
        rows = list(waiting.map(lambda passage: _written(passage, reader, sampling), passages))
    return [row for row in rows if row is not None]


def whole_answer(reader: Reader, prepared: PreparedPrompt, sampling: SamplingParams) -> str | None:
    """The decoded text without surrounding white space; None if it was cut off."""
    stream = reader.stream(prepared, sampling)
    text = "".join(stream).strip()
    return text if stream.finish == "stop" else None


def _written(passage: Passage, reader: Reader, sampling: SamplingParams) -> dict[str, Any] | None:
    sentence = _sentence(passage)
    question = _question(_said(reader, f"{EXAMPLES}Text: {sentence}\nQuestion:", [], sampling, PLAIN))
    if not content_words(question):
        return None
    answer = _said(reader, question, [replace(passage, text=sentence)], sampling, ANSWER)
    if not supports(passage_text(passage), question, answer):
        return None
    return {"question": question, "answers": [answer], "title": passage.title, "context": passage.text}


def _said(reader: Reader, text: str, passages: Sequence[Passage], sampling: SamplingParams, task: Task) -> str:
    """The model's answer; empty if it was cut off or there is no room for it."""
    if not reader.fits(text, answer=sampling.max_new_tokens):
        return ""
    prepared = reader.prepare(text, passages, prompt_passages=len(passages), sampling=sampling, task=task)
    return whole_answer(reader, prepared, sampling) or ""


def _sentence(passage: Passage) -> str:
    """The passage's sentence with the most content words, up to `MOST_WORDS`, or all of it."""
    sentences = [passage.text[start:end] for start, end in sentence_spans(passage.text)]
    long_enough = [each for each in sentences if LEAST_WORDS <= len(content_words(each)) <= MOST_WORDS]
    return max(long_enough, key=lambda each: len(content_words(each)), default=passage.text)


def _question(text: str) -> str:
    """The first line that is a question, without what stands around it; empty if there is none."""
    for line in text.splitlines():
        if "?" in line:
            return line[: line.index("?") + 1].strip().strip('"').removeprefix("Question:").strip()
    return ""
