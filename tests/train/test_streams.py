"""The curriculum, mixtures, refusals, and which layers a reader starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ragx_train.data.example import IGNORE, Example, next_tokens
from ragx_train.data.streams import chunk_count, mixed
from ragx_train.engine.attention import gold_shares
from ragx_train.engine.heads import LayerHeads, choose_layers
from ragx_train.recipes.qa import QaSettings, examples

from ragx.reader.prompt import REFUSAL
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny_runs import tiny_settings, write_questions


def counts(progress: float, most: int) -> list[int]:
    return [chunk_count(progress, most, np.random.default_rng(seed)) for seed in range(400)]


def test_texts_become_geometrically_longer() -> None:
    assert set(counts(0, 8)) == {1}
    assert set(counts(0.2, 8)) == {1, 2}
    assert set(counts(0.45, 8)) == {1, 2, 4}
    for progress in (0.75, 1.0):
        assert set(counts(progress, 8)) == {1, 2, 4, 8}
        assert counts(progress, 8).count(8) == pytest.approx(250, abs=40), "half of them, and a quarter of the others"
    assert set(counts(1, 6)) == {1, 2, 4, 6}
    assert set(counts(1, 1)) == {1}


def test_streams_are_interleaved_by_weight() -> None:
    def stream(name: str) -> Example:
        return Example([1], next_tokens([1]), [], name)

    both = mixed([lambda n: stream(f"a{n}"), lambda n: stream(f"b{n}")], [1, 3])
    assert sorted(both(position).origin for position in range(8)) == ["a0", "a1", *(f"b{n}" for n in range(6))]


def test_layers_are_chosen_by_their_heads() -> None:
    induction = [0.0, 0.1, 0.0, 0.7, 0.2, 0.9]
    previous = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3]
    heads = [LayerHeads(*pair) for pair in zip(induction, previous, strict=True)]
    assert choose_layers(heads, encoder=4, cross_attention=3) == ([0, 1, 2, 4], [3, 4, 5])
    assert choose_layers(heads, encoder=1, cross_attention=1) == ([0], [5])
    assert choose_layers(heads, encoder=99, cross_attention=99) == ([*range(6)], [*range(6)])


def question_examples(decoder: Path, folder: Path, *overrides: str) -> list[Example]:
    write_questions(folder)
    settings = tiny_settings("qa", decoder, folder, "data.passages=[3,4]", *overrides)
    assert isinstance(settings, QaSettings)
    example, _ = examples(settings, load_tokenizer(decoder))
    return [example(position) for position in range(40)]


def answers(example: Example, decoder: Path) -> list[tuple[str, list[int]]]:
    """Each question's answer and gold passages."""
    tokenizer = load_tokenizer(decoder)
    found = []
    for number, gold in enumerate(example.gold, start=1):
        labels = [
            label
            for label, segment in zip(example.labels, example.segments, strict=True)
            if segment == number and label != IGNORE
        ]
        found.append((tokenizer.decode(labels, skip_special_tokens=True), gold))
    return found


def test_questions_without_their_passages_are_refused(decoder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(decoder)
    refused = answered = 0
    for example in question_examples(decoder, tmp_path, "data.unanswerable=0.4"):
        texts = [tokenizer.decode(passage) for passage in example.passages]
        for answer, gold in answers(example, decoder):
            if answer == REFUSAL:
                assert gold == []
                refused += 1
            else:
                assert any(answer in texts[place] for place in gold)
                answered += 1
    assert refused > 10
    assert answered > refused


def test_without_a_share_none_is_refused(decoder: Path, tmp_path: Path) -> None:
    given = [pair for each in question_examples(decoder, tmp_path) for pair in answers(each, decoder)]
    assert all(answer != REFUSAL and gold for answer, gold in given)


def test_text_and_refusals_have_no_loss_on_attention(decoder: Path, tmp_path: Path) -> None:
    from ragx_train.data.example import collate
    from ragx_train.engine.losses import labelled_states
    from ragx_train.engine.model import reader_to_train

    settings = tiny_settings("qa", decoder, tmp_path)
    model, _ = reader_to_train(settings.model, settings.loop)
    asked = next(each for each in question_examples(decoder, tmp_path, "data.unanswerable=0.4") if [] in each.gold)
    text = Example([5, 6, 7], next_tokens([5, 6, 7]), [[5, 6], [7]], "text")
    with gold_shares(model, batch := collate([text])) as shares:
        labelled_states(model, batch)
    assert shares == []
    with gold_shares(model, batch := collate([text, asked])) as shares:
        labelled_states(model, batch)
    pairs = list(zip(asked.labels, asked.segments, strict=True))
    with_gold = sum(label != IGNORE and bool(asked.gold[segment - 1]) for label, segment in pairs)
    assert 0 < with_gold < sum(label != IGNORE for label, _ in pairs)
    assert all(len(layer) == with_gold for layer in shares)
    alone = replace(asked, gold=[[] for _ in asked.gold])
    with gold_shares(model, batch := collate([alone])) as shares:
        labelled_states(model, batch)
    assert shares == []
