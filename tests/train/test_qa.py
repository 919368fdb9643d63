"""Questions in one row, with passages encoded once for all of them, have the losses of single questions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ragx_train.data.example import IGNORE, Example, collate
from ragx_train.data.questions import load_questions
from ragx_train.engine.attention import gold_attention_loss, gold_shares
from ragx_train.engine.losses import labelled_states, next_token_loss
from ragx_train.engine.model import reader_to_train, trained
from ragx_train.recipes.qa import QaSettings, answer_loss, examples
from torch import Tensor

from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny_runs import text, tiny_settings, write_rows


def tiny_examples(
    decoder: Path, folder: Path, *overrides: str, passages: str = "[3,4]"
) -> tuple[CepeModel, list[Example], list[Example]]:
    """A tiny reader, eight examples, and each of their questions as an example of its own."""
    rows = []
    for article in range(6):
        for paragraph in range(2):
            context = text(2 * article + paragraph, 12)
            for number, word in enumerate(context.split()[:3]):
                question = f"What is word {number}?"
                rows.append({"question": question, "answers": [word], "title": f"Part {article}", "context": context})
    write_rows(folder / "questions.jsonl", rows)
    settings = tiny_settings("qa", decoder, folder, f"data.passages={passages}", "data.same_article=2", *overrides)
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    example, _ = examples(settings, tokenizer)
    together = [example(position) for position in range(8)]
    return model, together, [alone for each in together for alone in one_by_one(each)]


def one_by_one(example: Example) -> list[Example]:
    parts = []
    for number in range(1, max(example.segments) + 1):
        keep = [place for place, segment in enumerate(example.segments) if segment in (0, number)]
        ids, labels = ([values[place] for place in keep] for values in (example.ids, example.labels))
        alone = [int(example.segments[place] > 0) for place in keep]
        parts.append(replace(example, ids=ids, labels=labels, segments=alone, gold=[example.gold[number - 1]]))
    return parts


def loss_and_gradients(model: CepeModel, batches: list[list[Example]]) -> tuple[float, list[Tensor]]:
    model.zero_grad()
    losses = [next_token_loss(model, collate(batch))["loss"] for batch in batches]
    sum(losses).backward()  # type: ignore[union-attr]
    gradients = [weight.grad.clone() for weight in trained(model).values() if weight.grad is not None]
    return sum(float(loss.detach()) for loss in losses), gradients


@pytest.mark.parametrize("passages_in_prompt", ["[0,0]", "[1,2]"])
def test_questions_in_one_row_have_the_loss_and_gradients_of_single_ones(
    passages_in_prompt: str, decoder: Path, tmp_path: Path
) -> None:
    model, together, alone = tiny_examples(decoder, tmp_path, f"data.prompt_passages={passages_in_prompt}")
    assert len(alone) > 5 * len(together)
    loss, gradients = loss_and_gradients(model, [together[:4], together[4:]])
    expected, expected_gradients = loss_and_gradients(model, [[each] for each in alone])
    assert loss == pytest.approx(expected, rel=1e-5)
    assert len(gradients) == len(expected_gradients) == len(trained(model))
    for mine, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_training_on_the_question_alone_attends_as_the_finished_reader_does(decoder: Path, tmp_path: Path) -> None:
    model, together, alone = tiny_examples(decoder, tmp_path, "cross_attend=question", "data.prompt_passages=[1,2]")
    expected = 0.0
    with torch.no_grad():
        for each in alone:
            context = model.encode_passages(each.passages)
            context.attend_from = each.attend_from
            logits = model(input_ids=torch.tensor([each.ids]), context=context).logits[0]
            expected += float(F.cross_entropy(logits, torch.tensor(each.labels), ignore_index=IGNORE, reduction="sum"))
        loss = float(next_token_loss(model, collate(together))["loss"])
        everywhere = [replace(each, attend_from=0) for each in together]
        other = float(next_token_loss(model, collate(everywhere))["loss"])
    assert min(each.attend_from for each in together) > 0
    assert loss == pytest.approx(expected, rel=1e-5)
    assert loss != pytest.approx(other, rel=1e-5)


def test_an_epoch_has_every_question_once(decoder: Path, tmp_path: Path) -> None:
    _, together, alone = tiny_examples(decoder, tmp_path, "data.test=0", passages="[4,4]")
    questions = {(tuple(each.passages[each.gold[0][0]]), tuple(each.ids)) for each in alone[:36]}
    assert sum(len(each.gold) for each in together[:3]) == len(questions) == 36


def test_two_passages_of_an_article_are_adjacent(decoder: Path, tmp_path: Path) -> None:
    tiny_examples(decoder, tmp_path)
    settings = tiny_settings("qa", decoder, tmp_path, "data.test=0")
    assert isinstance(settings, QaSettings)
    ((questions,), _) = load_questions(settings.data, load_tokenizer(decoder))
    order = questions.order(2, np.random.default_rng(0))
    assert sorted(order) == list(range(12))
    titles = [questions.groups[place][0].gold[0].title for place in order]
    assert titles[::2] == titles[1::2]
    assert titles[::2] != sorted(titles[::2])


def test_the_number_of_questions_in_an_example_is_limited(decoder: Path, tmp_path: Path) -> None:
    _, together, alone = tiny_examples(decoder, tmp_path, "data.questions=2")
    assert [len(each.gold) for each in together] == [2] * 8
    assert len(alone) == 16


def test_the_gold_passages_share_is_the_one_that_the_reader_reports(decoder: Path, tmp_path: Path) -> None:
    model, together, alone = tiny_examples(decoder, tmp_path)
    with torch.no_grad():
        with gold_shares(model, batch := collate(together[:4])) as shares:
            labelled_states(model, batch)
        expected = []
        for each in alone[: sum(len(each.gold) for each in together[:4])]:
            context = model.encode_passages(each.passages)
            context.record_attention = True
            lengths = [place + 1 for place, label in enumerate(each.labels) if label != IGNORE]
            for length in lengths:
                seen = replace(context, _shares=[])
                model.model(input_ids=torch.tensor([each.ids[:length]]), context=seen, use_cache=False)
                expected.append(float(seen.attention_shares()[0, each.gold[0]].sum()))  # averaged over heads and layers
    assert len(shares) == len(model.config.cross_attention_layers)
    mean = torch.stack(shares).mean(dim=(0, 2))
    assert sorted(mean.tolist()) == pytest.approx(sorted(expected), abs=1e-5)
    assert float(gold_attention_loss(shares)) == pytest.approx(-sum(map(math.log, expected)), rel=1e-4)


def test_attention_to_the_gold_passages_is_learned(decoder: Path, tmp_path: Path) -> None:
    model, together, _ = tiny_examples(decoder, tmp_path)
    batch = collate(together[:4])
    optimizer = torch.optim.Adam(trained(model).values(), lr=0.01)
    history = []
    for _ in range(30):
        losses = answer_loss(1e3)(model, batch)
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append(float(losses["attention"]))
    assert history[-1] < 0.8 * history[0]


def test_in_validation_the_loss_is_that_of_the_answers(decoder: Path, tmp_path: Path) -> None:
    model, together, _ = tiny_examples(decoder, tmp_path)
    batch = collate(together[:4])
    trained_on = {name: float(loss.detach()) for name, loss in answer_loss(0.5)(model.train(), batch).items()}
    held_out = {name: float(loss.detach()) for name, loss in answer_loss(0.5)(model.eval(), batch).items()}
    assert held_out["loss"] == pytest.approx(float(next_token_loss(model, batch)["loss"].detach()))
    assert trained_on["loss"] == pytest.approx(trained_on["answers"] + 0.5 * trained_on["attention"])


def test_the_loss_on_attention_excludes_activation_checkpointing(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="activation_checkpointing"):
        tiny_settings("qa", decoder, tmp_path, "attention=1", "loop.activation_checkpointing=true")
