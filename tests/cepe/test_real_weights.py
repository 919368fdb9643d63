"""A real decoder, SmolLM2-135M, with active cross-attention behaves like the tiny random models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import AutoModelForCausalLM

from ragx.cepe.context import Context
from ragx.cepe.fresh import fresh
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.models import resolve
from ragx.util.tokenization import load_tokenizer

DECODER = "smollm2-135m-instruct"
LAYERS = {"encoder_layers": [0, 1, 2, 3], "cross_attention_layers": [17, 18, 20]}
PASSAGES = [
    "Fresh snow reflects up to ninety percent of the sunlight that reaches it.",
    "Dark soil absorbs most of the sunlight and warms up quickly in spring, before the snow around it has melted.",
    "The open sea looks blue.",
    "Albedo is the share of sunlight that a surface reflects; deserts reflect about forty percent of it.",
]
PROMPT = "How much of the sunlight does fresh snow reflect? Fresh snow reflects up to"


@pytest.fixture(scope="module")
def model() -> CepeModel:
    return fresh(resolve(DECODER), Placement(torch.float32, "cpu"), **LAYERS, output_gain=0.5)


@pytest.fixture(scope="module")
def ids(model: CepeModel) -> list[list[int]]:
    return load_tokenizer(resolve(DECODER)).plain_ids([*PASSAGES, PROMPT])


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def encoded(model: CepeModel, passages: list[list[int]], strategy: str = "cached") -> Context:
    context = model.encode_passages(passages)
    context.strategy = strategy
    return context


def logits(model: CepeModel, prompt: list[int], context: Context | None) -> torch.Tensor:
    return model(torch.tensor([prompt]), context=context).logits[0]


def distance(result: torch.Tensor, expected: torch.Tensor) -> float:
    return ((result - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_reader_has_its_decoders_logits(dtype: torch.dtype) -> None:
    plain = AutoModelForCausalLM.from_pretrained(resolve(DECODER), dtype=dtype)
    reader = fresh(resolve(DECODER), Placement(dtype, "cpu"), **LAYERS)
    prompt = torch.arange(100, 140)[None]
    torch.testing.assert_close(reader(prompt, encoder_input_ids=prompt.view(1, 4, 10)).logits, plain(prompt).logits)


def test_passages_change_the_logits(model: CepeModel, ids: list[list[int]]) -> None:
    assert distance(logits(model, ids[-1], encoded(model, ids[:-1])), logits(model, ids[-1], None)) > 0.01


@pytest.mark.parametrize("strategy", ["project", "latent"])
def test_all_attention_strategies_agree(model: CepeModel, ids: list[list[int]], strategy: str) -> None:
    expected = logits(model, ids[-1], encoded(model, ids[:-1]))
    assert distance(logits(model, ids[-1], encoded(model, ids[:-1], strategy)), expected) < 1e-5
    step = logits(model, ids[-1][-1:], encoded(model, ids[:-1]))  # one token, as in decoding
    assert distance(logits(model, ids[-1][-1:], encoded(model, ids[:-1], strategy)), step) < 1e-5


@pytest.mark.parametrize("strategy", ["cached", "project", "latent"])
def test_the_order_of_passages_does_not_matter(model: CepeModel, ids: list[list[int]], strategy: str) -> None:
    expected = logits(model, ids[-1], encoded(model, ids[:-1], strategy))
    shuffled = [ids[2], ids[0], ids[3], ids[1]]
    assert distance(logits(model, ids[-1], encoded(model, shuffled, strategy)), expected) < 1e-5


def test_questions_in_a_batch_do_not_affect_one_another(model: CepeModel, ids: list[list[int]]) -> None:
    longest = max(map(len, ids[:-1]))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids[:-1]])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids[:-1]])
    passages, masks = torch.stack([padded[:2], padded[2:]]), torch.stack([mask[:2], mask[2:]])
    masks[1, 1] = 0  # the second question has only one passage
    batch = model(torch.tensor([ids[-1]] * 2), encoder_input_ids=passages, encoder_attention_mask=masks).logits
    for row, own in zip(batch, (ids[:2], ids[2:3]), strict=True):
        assert distance(row, logits(model, ids[-1], encoded(model, own))) < 1e-5


@pytest.mark.parametrize("strategy", ["cached", "project", "latent"])
def test_passages_can_be_added_and_dropped_between_tokens(
    model: CepeModel, ids: list[list[int]], strategy: str
) -> None:
    two, third, three = (encoded(model, passages, strategy) for passages in (ids[:2], ids[2:3], ids[:3]))
    prompt, token = torch.tensor([ids[-1][:-1]]), torch.tensor([ids[-1][-1:]])
    cache = model(prompt, context=two, use_cache=True).past_key_values

    def step(context: Context) -> torch.Tensor:
        logits = model(token, context=context, past_key_values=cache, use_cache=True).logits
        cache.crop(-1)
        return logits

    assert distance(step(two.add(third)), step(three)) < 1e-5
    assert distance(step(three.drop(1)), step(encoded(model, [ids[0], ids[2]], strategy))) < 1e-5
