"""The bundled reader is small and reads facts that only its encoder sees."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from ragx import models
from ragx.config import EncodingOptions, SamplingParams
from ragx.evaluation.metrics import contains
from ragx.evaluation.scoring import score
from ragx.reader.cepe import CepeReader
from ragx.reader.loading import open_reader
from ragx.types import Passage

NAME = "ceped-smollm2-135m"
FACTS = [
    (
        "Brenholt Light",
        "The lighthouse at Brenholt was built in 1823.",
        "When was the lighthouse at Brenholt built?",
        "1823",
    ),
    ("Ada Quill", "The engineer Ada Quill was born in Tormansk.", "Where was Ada Quill born?", "Tormansk"),
    ("Velk", "The river Velk flows into lake Ossina.", "Which lake does the river Velk flow into?", "Ossina"),
    ("Mirro", "The painter of The Blue Goat was Jon Mirro.", "Who painted The Blue Goat?", "Jon Mirro"),
    (
        "Sarn",
        "The capital of the province of Sarn is Hullen.",
        "What is the capital of the province of Sarn?",
        "Hullen",
    ),
    ("Koris", "The Koris bridge is 412 metres long.", "How long is the Koris bridge?", "412"),
    ("Pell", "In the year 1907 Maud Pell founded the Harrow Choir.", "Who founded the Harrow Choir?", "Maud Pell"),
    (
        "Tavi",
        "The people of the Tavi islands speak Lommish.",
        "Which language is spoken on the Tavi islands?",
        "Lommish",
    ),
]
"""Title, passage, question, answer. All are invented, so they must be read."""


@cache
def reader() -> CepeReader:
    return open_reader(EncodingOptions(model=NAME, cache_size=0, dtype="float32", device="cpu"))


def passage(title: str, text: str) -> Passage:
    return Passage(id=title, document=title, title=title, text=text, position=0, start=0, end=len(text), source="")


def correct_answers(choose: Callable[[Passage], list[Passage]]) -> int:
    """Number of correct answers, with the chosen passages in the encoder and none in the prompt."""
    correct = 0
    sampling = SamplingParams(max_new_tokens=24)
    for title, text, question, answer in FACTS:
        passages = choose(passage(title, text))
        prepared = reader().prepare(question, passages, prompt_passages=0, sampling=sampling)
        correct += contains("".join(reader().stream(prepared, sampling)), [answer])
    return correct


def test_the_reader_is_small_and_has_a_model_card() -> None:
    folder = models.resolve(NAME)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 36 * 2**20
    card = (folder / "README.md").read_text(encoding="utf-8")
    for heading in ("How it was trained", "What it can do", "What it cannot do", "Licence"):
        assert heading in card


def test_the_reader_is_listed_as_bundled() -> None:
    (row,) = [row for row in models.list_models() if row.name == NAME]
    assert (row.kind, row.sources, row.cached) == ("reader", ["ragx"], True)


def test_text_in_the_encoder_is_copied() -> None:
    text = " ".join(sentence for _, sentence, _, _ in FACTS)
    ids = reader().tokenizer.plain_ids([text])[0]
    chunks = [ids[start : start + 64] for start in range(0, len(ids), 64)]
    with_passages, without = (
        score(reader().model, ids, passages, last=len(ids) - 1)["nll"] for passages in (chunks, [])
    )
    assert with_passages < 0.35 * without


def test_answers_are_read_from_the_encoder() -> None:
    assert correct_answers(lambda _: []) == 0
    assert correct_answers(lambda fact: [fact]) >= 3
    facts = [passage(title, text) for title, text, _, _ in FACTS]
    assert correct_answers(lambda _: facts) >= 4


def test_the_order_of_passages_changes_nothing() -> None:
    facts = [passage(title, text) for title, text, _, _ in FACTS]
    logits = []
    for passages in (facts, facts[::-1]):
        prepared = reader().prepare(FACTS[0][2], passages, prompt_passages=0, sampling=SamplingParams())
        ids = torch.tensor([prepared.prompt.ids])
        with torch.inference_mode():
            logits.append(reader().model(ids, context=prepared.context).logits)
    torch.testing.assert_close(*logits, rtol=1e-3, atol=1e-3)
    with torch.inference_mode():
        without = reader().model(ids).logits
    assert float((without - logits[0]).abs().max()) > 1


def test_the_model_cards_figures_are_in_the_results() -> None:
    card = (models.resolve(NAME) / "README.md").read_text(encoding="utf-8")
    results = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    figures = re.findall(r"\d+\.\d+ \(\d+\.\d+–\d+\.\d+\)", card)
    assert len(figures) >= 3
    assert [figure for figure in figures if figure not in results] == []
