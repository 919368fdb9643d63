"""Table 3: demonstrations, and likelihoods of labels against plain forward passes in float64."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.paper.classification import Labelled, balanced, read_labelled, sample
from ragx.evaluation.paper.options import Table3Options
from ragx.evaluation.paper.table3 import evaluate
from ragx.util.tokenization import Tokenizer
from tests.evaluation.conftest import text, write_rows
from tests.evaluation.paper.conftest import MakeContest

LABELS = ["bright snow", "dark", "sun"]
OPTIONS = Table3Options(decoder_shots="1,3", encoder_shots="2", seeds="7,8")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    rows = [{"text": text(n, 4), "label": LABELS[n % 3]} for n in range(12)]
    return write_rows(folder / "train.jsonl", rows[:9]), write_rows(folder / "moods.jsonl", rows[9:])


def expected(
    model: Any, tokenizer: Tokenizer, shots: list[Labelled], encoded: list[Labelled], asked: str
) -> tuple[list[float], list[float], list[int]]:
    """log p of each label after the prompt and after the start token, and the labels' lengths."""
    shown = "".join(f"Text: {each.text}\nLabel: {each.label}\n\n" for each in shots)
    start = [1]
    prompt = [1, *tokenizer.plain_ids([f"{shown}Text: {asked}\nLabel:"])[0]]
    context = {}
    if encoded:
        passages = tokenizer.plain_ids([f"Text: {each.text}\nLabel: {each.label}" for each in encoded])
        longest = max(map(len, passages))
        padded = [each + [0] * (longest - len(each)) for each in passages]
        mask = [[1] * len(each) + [0] * (longest - len(each)) for each in passages]
        context = {"encoder_input_ids": torch.tensor([padded]), "encoder_attention_mask": torch.tensor([mask])}
    results: tuple[list[float], list[float]] = ([], [])
    labels = tokenizer.plain_ids([f" {label}" for label in LABELS])
    for before, passages_given, result in ((prompt, context, results[0]), (start, {}, results[1])):
        for label in labels:
            ids = torch.tensor([before + label])
            with torch.no_grad():
                logits = model(ids, **passages_given).logits[0, len(before) - 1 : -1].log_softmax(dim=-1)
            result.append(logits.gather(1, torch.tensor(label)[:, None]).sum().item())
    return *results, [len(label) for label in labels]


@pytest.mark.parametrize("score", ["length", "likelihood", "calibrated", "calibrated-length"])
def test_accuracies_are_those_of_plain_forward_passes(
    contest: MakeContest, exact: Any, sets: tuple[Path, Path], tokenizer: Tokenizer, score: str
) -> None:
    options = OPTIONS.model_copy(update={"score": score})
    table = evaluate(contest(), [sets], options)
    train, test = map(read_labelled, sets)
    assert [row[1:4] for row in table.rows] == [["cepe", 1, 2], ["full", 1, 0], ["full", 3, 0]]
    for row in table.rows:
        inside, encoded = int(row[2]), int(row[3])  # type: ignore[arg-type]
        right = []
        for seed in (7, 8):
            shots = balanced(train, inside + encoded, seed)
            for case in sample(test, 250, seed):
                found, alone, lengths = expected(exact, tokenizer, shots[:inside], shots[inside:], case.text)
                scores = np.array(found) - np.array(alone) * ("calibrated" in score)
                scores = scores / (np.array(lengths) if "length" in score else 1)
                right.append(LABELS[int(scores.argmax())] == case.label)
        assert row[4].value == pytest.approx(100 * np.mean(right))  # type: ignore[union-attr]


def test_likelihoods_are_kept_for_any_score(
    contest: MakeContest, exact: Any, sets: tuple[Path, Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "raw.jsonl"
    evaluate(contest(out=out, reader="cepe", limit=1), [sets], OPTIONS.model_copy(update={"seeds": "7"}))
    lines = out.read_text().splitlines()
    assert len(lines) == 2
    values = json.loads(lines[1])["values"]
    train, test = map(read_labelled, sets)
    shots = balanced(train, 3, 7)
    found, alone, lengths = expected(exact, tokenizer, shots[:1], shots[1:], sample(test, 1, 7)[0].text)
    assert values["log_probs"] == pytest.approx(found, rel=1e-4)
    assert values["alone"] == pytest.approx(alone, rel=1e-4)
    assert values["lengths"] == lengths
    assert max(lengths) > 1
    evaluate(
        contest(out=out, reader="cepe", limit=1),
        [sets],
        OPTIONS.model_copy(update={"seeds": "7", "score": "likelihood"}),
    )
    assert out.read_text().splitlines() == lines


def test_demonstrations_are_balanced() -> None:
    rows = [Labelled(str(n), label) for label, count in (("a", 50), ("b", 6), ("c", 9)) for n in range(count)]
    for count, least, most in ((18, 6, 6), (10, 3, 4), (2, 0, 1)):
        drawn = balanced(rows, count, 42)
        counts = Counter(row.label for row in drawn)
        assert len({(row.label, row.text) for row in drawn}) == count
        assert min(counts[label] for label in "abc") == least
        assert max(counts.values()) == most
    assert balanced(rows, 2, 42) == balanced(rows, 20, 42)[:2]
    assert balanced(rows, 20, 42) != balanced(rows, 20, 43)
    assert len(balanced(rows, 1000, 42)) == len(rows)


def test_a_prompt_beyond_the_window_is_refused(contest: MakeContest, sets: tuple[Path, Path], tmp_path: Path) -> None:
    long = write_rows(tmp_path / "long.jsonl", [{"text": text(n, 200), "label": "sun"} for n in range(2)])
    with pytest.raises(ConfigError, match="3 demonstrations take"):
        evaluate(contest(reader="full"), [(long, sets[1])], OPTIONS.model_copy(update={"decoder_shots": "3"}))


@pytest.mark.parametrize("row", [{"text": "x"}, {"label": "x"}, {"text": "x", "label": ""}, {"text": 1, "label": "x"}])
def test_unusable_rows(tmp_path: Path, row: dict[str, object]) -> None:
    with pytest.raises(CorpusError, match=r"rows\.jsonl:1 has no `text` and `label`"):
        read_labelled(write_rows(tmp_path / "rows.jsonl", [row]))


def test_a_template_names_text_and_label(contest: MakeContest, sets: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="template"):
        evaluate(contest(), [sets], OPTIONS.model_copy(update={"template": "{text}"}))
