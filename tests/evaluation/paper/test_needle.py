"""The needle of Figure 4: where it is, what the encoder reads, and how answers are scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ragx.errors import ConfigError
from ragx.evaluation.needle import Sentences, read_sentences
from ragx.evaluation.paper.needle import BEFORE, NEEDLE, REQUEST, evaluate, haystack, passages_of
from ragx.evaluation.paper.options import NeedleOptions
from ragx.util.tokenization import Tokenizer
from tests.evaluation.paper.conftest import MakeContest

pytest.importorskip("rouge_score")
OPTIONS = NeedleOptions(lengths="260,420", depths=3, decoder_tokens=260, max_new_tokens=5)


@pytest.fixture
def hay(documents: Path, tokenizer: Tokenizer) -> Sentences:
    return read_sentences(documents, tokenizer, tokens=1000)


@pytest.mark.parametrize("depth", [0, 0.25, 0.5, 1])
def test_the_needle_is_at_its_depth(hay: Sentences, tokenizer: Tokenizer, depth: float) -> None:
    found = haystack(hay, tokenizer, tokens=600, depth=depth)
    at = found.texts.index(NEEDLE)
    assert found.texts[:at] + found.texts[at + 1 :] == hay.texts[: len(found.texts) - 1]
    assert 600 - max(hay.tokens) <= sum(found.tokens) <= 600
    without = sum(found.tokens) - found.tokens[at]
    assert abs(sum(found.tokens[:at]) - depth * without) <= max(hay.tokens) / 2
    assert found.tokens[at] == len(tokenizer.plain_ids([f" {NEEDLE}"])[0])


def test_passages_are_whole_sentences() -> None:
    sentences = Sentences(["a", "b", "c", "d", "e"], [200, 56, 1, 300, 255])
    assert passages_of(sentences) == ["a b", "c", "d", "e"]


def test_answers_are_those_of_plain_greedy_decoding(
    contest: MakeContest, exact: Any, documents: Path, hay: Sentences, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "raw.jsonl"
    evaluate(contest(out=out, reader="cepe,full"), documents, OPTIONS)
    rows = list(map(json.loads, out.read_text().splitlines()[1:]))
    assert len(rows) == 3 * 3
    before, request = tokenizer.plain_ids([BEFORE, REQUEST])
    fixed = 1 + len(before) + len(request) + 5
    for row in rows:
        reader, tokens, inside = row["setting"].split()[2:5]
        depth = float(row["example"].split()[-1]) / 100
        whole = haystack(hay, tokenizer, tokens=int(tokens) - fixed, depth=depth)
        first = next(n for n in range(99) if sum(whole.tokens[n:]) <= int(inside) - fixed)
        assert (first > 0) == (reader == "cepe")
        context = {}
        if first:
            parts = passages_of(Sentences(whole.texts[:first], whole.tokens[:first]))
            encoded = tokenizer.plain_ids(parts)
            width = max(map(len, encoded))
            context = {
                "encoder_input_ids": torch.tensor([[each + [0] * (width - len(each)) for each in encoded]]),
                "encoder_attention_mask": torch.tensor(
                    [[[1] * len(each) + [0] * (width - len(each)) for each in encoded]]
                ),
            }
        prompt = [1, *before, *tokenizer.plain_ids([" ".join(whole.texts[first:])])[0], *request]
        answer: list[int] = []
        while len(answer) < 5 and answer[-1:] != [2]:
            with torch.no_grad():
                answer.append(int(exact(torch.tensor([prompt + answer]), **context).logits[0, -1].argmax()))
        expected = tokenizer.decode([token for token in answer if token > 2]).rstrip("�").strip()
        assert row["values"]["answer"] == expected, (reader, tokens, depth)


def test_scores_are_rouge_1_and_contains(contest: MakeContest, documents: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw.jsonl"
    evaluate(contest(out=out, reader="full"), documents, OPTIONS)
    head, *rows = out.read_text().splitlines()
    answers = ["", "You eat a sandwich and sit in Dolores Park!", NEEDLE]
    changed = [json.loads(row) for row in rows]
    for number, row in enumerate(changed):
        row["values"]["answer"] = answers[number % 3]
    out.write_text("\n".join([head, *map(json.dumps, changed)]) + "\n")
    table, grids = evaluate(contest(out=out, reader="full"), documents, OPTIONS)
    scores = {round(value, 3) for grid in grids for row in grid.values for value in row}
    # 8 of 9 and 21 words in common
    assert scores == {0, 10, round(10 * 16 / 30, 3)}
    found: Any = table.rows[0][list(table.columns).index("found")]
    assert found.value == pytest.approx(200 / 3)
    assert [grid.lengths for grid in grids] == [[260, 420]]
    assert list(table.columns)[4:7] == ["0 %", "50 %", "100 %"]


def test_lengths_that_hold_no_haystack(contest: MakeContest, documents: Path) -> None:
    for changes in ({"lengths": "20"}, {"decoder_tokens": 20}):
        with pytest.raises(ConfigError, match="must be at least"):
            evaluate(contest(), documents, OPTIONS.model_copy(update=changes))
