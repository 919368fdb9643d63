"""The CPU backend computes what the torch model computes, but for the rounding of weights and passages to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ragx import cepe
from ragx.engine.cpu.compile import compile_reader
from ragx.engine.cpu.model import CpuModel
from ragx.onnx.graph import quantize_blocks
from tests.helpers.tiny import activate, save_decoder

PASSAGES = [[5, 9, 30, 31, 32], [], [7], [90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100], [5, 9, 30, 31, 33]]
PROMPT = list(range(20, 60))


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2", "qwen3", "smollm3"])
def torch_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny reader of each family, with the weights that the CPU backend rounds to."""
    folder = tmp_path_factory.mktemp(request.param)
    sizes = {
        "hidden_size": 64,
        "head_dim": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "sliding_window": None,
    }
    save_decoder(folder, request.param, **sizes)
    model = activate(cepe.load(str(folder), dtype="float32", device="cpu"), std=0.2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and name.startswith(("model.layers", "lm_head")) and "cross_attn.k" not in name:
                values, scales = quantize_blocks(parameter.numpy())
                rounded = (values.astype(np.float32) - 128) * scales[:, :, None]
                parameter.copy_(torch.from_numpy(rounded).flatten(1)[:, : parameter.shape[1]])
    return model


@pytest.fixture(scope="module")
def model(torch_model: Any, tmp_path_factory: pytest.TempPathFactory) -> CpuModel:
    folder = tmp_path_factory.mktemp("compiled")
    compile_reader(torch_model, folder)
    return CpuModel(folder)


def test_passages_are_encoded_as_by_torch(torch_model: Any, model: CpuModel) -> None:
    with torch.inference_mode():
        expected = torch_model.encode_passages(PASSAGES).phi[0].numpy()
    np.testing.assert_allclose(model.encode_passages(PASSAGES).phi, expected, atol=2e-4)


def test_a_frugal_model_reads_one_prompt_after_another(model: CpuModel) -> None:
    frugal = CpuModel(model.folder, frugal=True)
    for prompt in (PROMPT, PROMPT[5:]):
        expected, logits = (
            each.prefill(each.sequence(each.encode_passages(PASSAGES), 64), prompt, is_last=True)
            for each in (model, frugal)
        )
        np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("piece", [7, 64])
@pytest.mark.parametrize("attend_from", [None, 0, 30, 39])
def test_logits_are_those_of_torch(torch_model: Any, model: CpuModel, piece: int, attend_from: int | None) -> None:
    answer = [3, 4, 5, 6]
    contexts = [each.encode_passages(PASSAGES) for each in (torch_model, model)]
    for context in contexts:
        context.attend_from = attend_from
    context, own = contexts if attend_from is not None else (None, None)
    with torch.inference_mode():
        expected = torch_model(torch.tensor([PROMPT + answer]), context=context).logits[0, len(PROMPT) - 1 :].numpy()
    sequence = model.sequence(own, 64)
    for start in range(0, len(PROMPT), piece):
        part = PROMPT[start : start + piece]
        logits = [model.prefill(sequence, part, is_last=start + piece >= len(PROMPT))]
    batch = model.batch()
    batch.join(sequence)
    logits += [batch.step([token])[0].copy() for token in answer]
    errors = np.abs(np.array(logits) - expected).mean(axis=1) / expected.std()
    assert errors[0] < 0.01  # the input of the head is rounded
    assert errors.max() < 0.05  # so are those of all matrices, and the passages
