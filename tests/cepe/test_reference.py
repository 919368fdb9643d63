"""Checkpoints in the authors' layout give the outputs of the authors' code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ragx import cepe
from ragx.cepe.model import CepeModel

Recorded = tuple[CepeModel, dict[str, torch.Tensor]]


@pytest.fixture(scope="module", params=["cepe-tiny-mha", "cepe-tiny-gqa"])
def recorded(request: pytest.FixtureRequest, shared: Path) -> Recorded:
    folder = shared / "reference" / request.param
    return cepe.load(str(folder), dtype="float32", device="cpu"), load_file(folder / "expected.safetensors")


def full(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"encoder_input_ids": values["encoder_input_ids_full"]}


def masked(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: values[key] for key in ("encoder_input_ids", "encoder_attention_mask")}


@pytest.mark.parametrize(
    ("name", "context"),
    [("logits_no_context", lambda values: {}), ("logits_full_context", full), ("logits_masked_context", masked)],
)
def test_logits(recorded: Recorded, name: str, context) -> None:
    model, values = recorded
    with torch.no_grad():
        logits = model(input_ids=values["input_ids"], **context(values)).logits
    torch.testing.assert_close(logits, values[name], rtol=0, atol=1e-4)


def test_logits_with_left_padding(recorded: Recorded) -> None:
    model, values = recorded
    with torch.no_grad():
        logits = model(values["input_ids"], values["attention_mask"], **masked(values)).logits
    real = values["attention_mask"].bool()
    torch.testing.assert_close(logits[real], values["logits_left_padded"][real], rtol=0, atol=1e-4)


def test_encoder_states(recorded: Recorded) -> None:
    model, values = recorded
    with torch.no_grad():
        phi = model.encode(values["encoder_input_ids_full"]).phi
    torch.testing.assert_close(phi, values["encoder_hidden_states_full"], rtol=0, atol=1e-4)


def test_loss(recorded: Recorded) -> None:
    model, values = recorded
    with torch.no_grad():
        loss = model(values["input_ids"], labels=values["input_ids"], **masked(values)).loss
    assert loss.item() == pytest.approx(values["lm_loss"].item(), abs=1e-4)


def test_greedy_tokens(recorded: Recorded) -> None:
    model, values = recorded
    prompt = values["input_ids"][:1]
    context = {key: value[:1] for key, value in masked(values).items()}
    generated = model.generate(prompt, max_new_tokens=24, max_length=None, do_sample=False, **context)
    assert generated[:, prompt.shape[1] :].tolist() == values["greedy_tokens"].tolist()
