"""Two-stream training: one forward pass is the loop over chunks, the decoder stays frozen, and a run learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from ragx_train.data.example import Batch, collate
from ragx_train.engine import log as record
from ragx_train.engine.two_stream import two_stream_loss, two_streams
from ragx_train.recipes.extensible import two_stream_example
from safetensors.torch import load_file

from ragx import extensible
from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError
from ragx.extensible.embedder import embed
from tests.helpers.tiny_embedders import with_embedder
from tests.helpers.tiny_runs import run_recipe, tiny_settings, write_documents

CHUNK = 8
IDS = torch.randint(3, 200, (2, 3 * CHUNK), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.fixture
def model(decoder: Path) -> CepeModel:
    return with_embedder(decoder).double()


def batch_of(*rows: tuple[list[int], int]) -> Batch:
    return collate([two_stream_example((ids, "text"), CHUNK, ratio) for ids, ratio in rows])


def looped_loss(model: CepeModel, ids: list[int], ratio: int) -> torch.Tensor:
    """Each chunk on its own, after the embeddings of those before it, as a reader reads it."""
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    embeddings = embed(model, chunks[:-1], ratio)
    loss = torch.zeros((), dtype=torch.float64)
    for number, chunk in enumerate(chunks):
        inputs = torch.cat([*embeddings[:number], model.model.embed_tokens(torch.tensor(chunk))])
        logits = model(inputs_embeds=inputs[None]).logits[0, -CHUNK:]
        labels = torch.tensor([*ids[number * CHUNK + 1 :][:CHUNK]])
        loss = loss + F.cross_entropy(logits[: len(labels)], labels, reduction="sum")
    return loss


@pytest.mark.parametrize("rows", [[(IDS[0], 2)], [(IDS[0], 8), (IDS[1], 2), (IDS[1][: 2 * CHUNK], 4)]])
def test_one_forward_pass_is_the_loop_over_chunks(model: CepeModel, rows: list[tuple[list[int], int]]) -> None:
    assert model.extensible is not None
    weights = list(model.extensible.parameters())
    ours = two_stream_loss(model, batch_of(*rows))["loss"]
    plain = torch.stack([looped_loss(model, *row) for row in rows]).sum()
    torch.testing.assert_close(ours, plain)
    for one, other in zip(torch.autograd.grad(ours, weights), torch.autograd.grad(plain, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)  # norms compute in float32


def test_the_frozen_decoder_gets_no_gradient(model: CepeModel) -> None:
    two_stream_loss(model, batch_of((IDS[0], 4)))["loss"].backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == name.startswith("extensible."), name


def test_a_chunk_sees_the_embeddings_before_it_and_its_own_tokens() -> None:
    mask, positions = two_streams(torch.tensor([[1, 1, 2, 2]]), torch.tensor([[1, 1, 2, 2, 3, 3]]))
    assert positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 4, 5]]  # j · L_c/k + t
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 1, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 1, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_the_loss_of_a_chunk_has_no_gradient_by_its_own_and_later_embeddings(model: CepeModel, chunk: int) -> None:
    embedded: list[torch.Tensor] = []
    assert model.extensible is not None
    model.extensible.register_forward_hook(lambda *given: embedded.append(given[2]))
    batch = batch_of((IDS[0], 2))
    batch.labels[:, : chunk * CHUNK] = batch.labels[:, (chunk + 1) * CHUNK :] = -100
    loss = two_stream_loss(model, batch)["loss"]
    (states,) = embedded  # (2 chunks, L, W)
    (gradient,) = torch.autograd.grad(loss, states, allow_unused=True)
    reached = [False, False] if gradient is None else [bool(each.any()) for each in gradient]
    assert reached == [number < chunk for number in range(2)]


def test_a_run_learns_and_its_embedder_continues(decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    run_recipe("extensible", tmp_path / "out", tiny_settings("extensible", decoder, tmp_path))
    log = record.read(tmp_path / "out")
    losses = [each["loss"] for each in log if "loss" in each]
    validation = [each for each in log if "validation_loss" in each]
    assert losses[0] - losses[-1] > 0.4
    for name in ("validation_loss", "validation_loss_k4", "validation_loss_k8"):
        assert validation[-1][name] < validation[0][name]
    trained = extensible.load(str(tmp_path / "out" / "reader"), dtype="float32", device="cpu").extensible
    assert trained is not None
    assert trained.settings.ratios == (4, 8)
    stored = load_file(tmp_path / "out" / "reader" / "model.safetensors")
    assert all(name.startswith("extensible.") for name in stored)
    further = ["loop.steps=1", f"model.init_from={tmp_path / 'out'}"]
    run_recipe("extensible", tmp_path / "more", tiny_settings("extensible", decoder, tmp_path, *further))
    (first,) = (each["loss"] for each in record.read(tmp_path / "more") if "loss" in each)
    assert first < losses[0] - 0.4, "the same example as in the first run"
    other = tiny_settings("extensible", decoder, tmp_path, *further, "embedder.chunk=8")
    with pytest.raises(ConfigError, match="init_from"):
        run_recipe("extensible", tmp_path / "other", other)
