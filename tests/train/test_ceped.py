"""Distillation: what the teacher reads, how predictions are stored, and what the coefficients do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ragx_train.data.documents import open_corpus
from ragx_train.data.example import Batch, micro_batches
from ragx_train.engine import log as record
from ragx_train.engine.losses import ROWS, next_token_loss, top_kl, top_probabilities
from ragx_train.engine.model import reader_to_train
from ragx_train.engine.teacher import Teacher, on_the_fly, stored, teach
from ragx_train.recipes.cepe import examples
from ragx_train.recipes.ceped import CepedSettings, distillation
from torch import Tensor
from transformers import AutoModelForCausalLM

from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError
from tests.helpers.tiny_runs import run_recipe, tiny_settings, write_documents

Case = tuple[CepeModel, Batch, CepedSettings]


@pytest.fixture
def case(decoder: Path, tmp_path: Path) -> Case:
    """A fresh reader, and a batch of two examples."""
    write_documents(tmp_path)
    settings = tiny_settings("ceped", decoder, tmp_path)
    assert isinstance(settings, CepedSettings)
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    example, _ = examples(settings, open_corpus(settings.data, tokenizer), tokenizer)
    return model, micro_batches([example(0), example(1)], 2)[0], settings


def loss_with(case: Case, teacher: Teacher, **coefficients: float) -> float:
    model, batch, settings = case
    return float(distillation(settings.model_copy(update=coefficients), teacher)(model, batch)["loss"].detach())


def never(*_: object) -> tuple[Tensor, Tensor]:
    raise AssertionError("the teacher predicted")


def test_the_most_likely_tokens_are_those_of_the_whole_vocabulary() -> None:
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS + 3, 5, generator=random)
    weight = torch.randn(70, 5, generator=random)
    expected, ids = (hidden @ weight.T).softmax(dim=-1).topk(50, dim=-1)
    top_ids, probabilities = top_probabilities(hidden, weight, 50)
    assert torch.equal(top_ids, ids)
    torch.testing.assert_close(probabilities, expected)
    assert top_probabilities(hidden, weight[:7], 50)[1].sum(dim=1) == pytest.approx(torch.ones(ROWS + 3).numpy())


def test_the_teacher_is_the_decoder_on_the_unmasked_text(case: Case, decoder: Path) -> None:
    model, batch, settings = case
    assert batch.encoder_tokens < batch.before.numel(), "the student reads a masked context"
    plain = AutoModelForCausalLM.from_pretrained(decoder)
    with torch.no_grad():
        logits = plain(torch.cat([batch.before, batch.ids], dim=1)).logits[:, settings.encoder_tokens :][:, :-1]
    expected, ids = logits.flatten(0, 1).softmax(dim=-1).topk(50, dim=-1)
    top_ids, probabilities = teach(model, batch, 50)
    torch.testing.assert_close(probabilities, expected)
    assert (top_ids == ids).float().mean() > 0.99  # ties may fall either way
    assert not probabilities.requires_grad


def test_the_coefficients_weight_divergence_and_cross_entropy(case: Case) -> None:
    teacher = on_the_fly(50)
    model, batch, _ = case
    plain = float(next_token_loss(model, batch)["loss"].detach())
    assert loss_with(case, never, kl=0) == pytest.approx(plain)
    divergence = loss_with(case, teacher, kl=1, cross_entropy=0)
    assert divergence > 1
    for kl in (1, 2):
        assert loss_with(case, teacher, kl=kl) == pytest.approx(plain + kl * divergence)


def test_the_parts_are_reported_without_their_coefficients(case: Case) -> None:
    model, batch, settings = case
    losses = distillation(settings.model_copy(update={"cross_entropy": 0.5, "kl": 3}), on_the_fly(50))(model, batch)
    assert float(losses["cross_entropy"]) == pytest.approx(float(next_token_loss(model, batch)["loss"].detach()))
    assert float(losses["kl"]) == pytest.approx(loss_with(case, on_the_fly(50), kl=1, cross_entropy=0))
    assert float(losses["loss"].detach()) == pytest.approx(
        0.5 * float(losses["cross_entropy"]) + 3 * float(losses["kl"])
    )


def test_validation_uses_the_cross_entropy_with_any_coefficients(case: Case) -> None:
    model, batch, _ = case
    model.eval()
    for cross_entropy, kl in ((1, 0), (1, 2), (0, 2)):
        loss = loss_with(case, on_the_fly(50), cross_entropy=cross_entropy, kl=kl)
        assert loss == pytest.approx(float(next_token_loss(model, batch)["loss"].detach()))


@pytest.fixture
def storing(decoder: Path) -> Callable[[], Teacher]:
    """Creates a teacher that stores its predictions."""
    return lambda: stored(50, decoder, "fp32")


def test_stored_predictions_are_those_of_a_fresh_teacher(case: Case, storing: Callable[[], Teacher]) -> None:
    model, batch, _ = case
    fresh = loss_with(case, on_the_fly(50), cross_entropy=0)
    first = loss_with(case, storing(), cross_entropy=0)
    ids, probabilities = storing()(model, batch)
    assert (ids.dtype, probabilities.dtype) == (torch.int32, torch.float16)
    torch.testing.assert_close(probabilities.float(), teach(model, batch, 50)[1], atol=0, rtol=2**-10)
    assert first == pytest.approx(fresh, rel=2e-3)
    again = loss_with(case, storing(), cross_entropy=0)
    assert again == pytest.approx(first), "the stored predictions are those that were used first"


def test_a_stored_teacher_predicts_once_for_each_text(
    case: Case, storing: Callable[[], Teacher], tmp_path: Path
) -> None:
    model, batch, _ = case
    first = storing()(model, batch)
    (one, other) = sorted((tmp_path / "ragx-home" / "teacher").rglob("*.safetensors"))
    one.write_bytes(other.read_bytes()[:-10])  # a damaged file is replaced
    again = storing()(model, batch)
    torch.testing.assert_close(again[1], first[1])
    with torch.no_grad():
        model.lm_head.weight.zero_()  # a new prediction is uniform
    torch.testing.assert_close(storing()(model, batch), again)
    changed = batch.before.clone()
    changed[0, 0] += 1
    uniform = storing()(model, Batch(**{**vars(batch), "before": changed}))[1][: again[1].shape[0] // 2]
    assert float(uniform.max()) < 2 / len(model.lm_head.weight)


def test_the_loss_is_defined_if_the_top_tokens_have_all_the_probability(case: Case) -> None:
    def certain(model: CepeModel, batch: Batch) -> tuple[Tensor, Tensor]:
        rows = batch.predictions
        return torch.arange(50).repeat(rows, 1), torch.eye(1, 50).repeat(rows, 1).half()

    model, batch, settings = case
    loss = distillation(settings, certain)(model, batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(each.grad).all() for each in model.parameters() if each.grad is not None)
    hidden = torch.zeros(1, 2)
    everything = top_kl(hidden, torch.ones(3, 2), torch.tensor([[0, 1, 2]]), torch.full((1, 3), 1 / 3))
    assert float(everything) == pytest.approx(0, abs=1e-6)


def test_the_coefficients_cannot_both_be_0(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot both be 0"):
        tiny_settings("ceped", decoder, tmp_path, "kl=0", "cross_entropy=0")


def test_a_student_approaches_its_teacher(decoder: Path, tmp_path: Path) -> None:
    # without cross-entropy, which would lead away from a random decoder
    write_documents(tmp_path)
    settings = tiny_settings(
        "ceped", decoder, tmp_path, "cross_entropy=0", "model.output_gain=3", "loop.learning_rate=1.0e-2"
    )
    run_recipe("ceped", tmp_path / "out", settings)
    losses = [each["loss"] for each in record.read(tmp_path / "out") if "loss" in each]
    assert losses[0] == pytest.approx(1.96, rel=0.05)
    assert losses[-1] == pytest.approx(0.88, rel=0.25)
    assert losses[-1] < 0.5 * losses[0]
