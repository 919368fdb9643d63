"""The default models, alone and in a batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ragx.config import SamplingParams
from ragx.rag import RAG

QUESTIONS = ["How much sunlight does fresh snow reflect?", "What does dark soil absorb?", "Why is the sea blue?"]


@pytest.mark.slow
def test_the_default_model_answers_the_same_alone_and_in_a_batch(notes_index: Path) -> None:
    rag = RAG.from_index(notes_index, dtype="float32", device="cpu")
    alone = [rag.ask(question, sampling=SamplingParams(max_new_tokens=16)) for question in QUESTIONS]
    assert all(answer.text for answer in alone)
    with ThreadPoolExecutor(3) as askers:
        together = list(
            askers.map(lambda question: rag.ask(question, sampling=SamplingParams(max_new_tokens=16)), QUESTIONS)
        )
    rag.close()
    assert [(answer.text, answer.finish) for answer in together] == [(answer.text, answer.finish) for answer in alone]
