"""A projection of a frozen reader's encodings learns to order passages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ragx_train.cli import load_recipe
from ragx_train.engine import log as record
from ragx_train.engine.late_interaction import LateInteraction, listwise_loss
from ragx_train.engine.loop import Run
from ragx_train.recipes.late import LateModelSettings, LateSettings, run
from safetensors.numpy import load_file

from ragx.errors import ConfigError, ModelError
from ragx.models.check import PROJECTION
from ragx.reader.reranking import open_reranker
from ragx.retrieval.rerankers.late import max_sim
from tests.helpers.tiny import save_tiny_reader
from tests.helpers.tiny_cross_encoders import pair_tokenizer
from tests.helpers.tiny_encoders import save_encoder
from tests.helpers.tiny_runs import CONFIGS, write_coloured_questions
from tests.helpers.toy_embedders import passages


@pytest.fixture
def model() -> LateInteraction:
    torch.manual_seed(0)
    model = LateInteraction(torch.randn(50, 12) @ torch.randn(12, 12) + 3, 8)
    with torch.no_grad():
        model.importance.normal_()
    return model


def states(*lengths: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(length, 12) + 3 for length in lengths]


def test_scores_are_those_of_the_reranker(model: LateInteraction) -> None:
    question, *passages = states(4, 3, 1, 6)
    projection = model.projection()
    tokens = projection.passage(torch.cat(passages).numpy())
    expected = max_sim(projection.question(question.numpy()), tokens, [3, 1, 6])
    np.testing.assert_allclose(model(question, passages).detach(), expected, rtol=1e-4)


def test_it_starts_with_uncorrelated_components_of_equal_variance() -> None:
    torch.manual_seed(0)
    sample = torch.randn(400, 6) @ torch.randn(6, 6) - 2
    start = LateInteraction(sample, 4)
    components = (sample - start.mean) @ start.matrix
    torch.testing.assert_close(components.T.cov(), torch.eye(4), atol=1e-3, rtol=0)


def test_the_loss_is_the_cross_entropy_of_the_first_passage_with_the_search_s_order(model: LateInteraction) -> None:
    question, *passages = states(4, 3, 1, 6)
    places = [7, 1, 2]
    scores = model(question, passages).detach() - float(model.order.detach()) * torch.log(torch.tensor(places))
    torch.testing.assert_close(
        listwise_loss(model, question, passages, places).detach(), -torch.log(scores.softmax(0)[0])
    )
    loss = listwise_loss(model, question, passages, places)
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tiny(folder: Path, decoder: Path, *overrides: str) -> LateSettings:
    encoder = save_encoder(folder / "encoder")
    pair_tokenizer().save_pretrained(encoder)
    reader = save_tiny_reader(folder / "reader", decoder)
    names = [f"model.reader={reader}", f"data.embedder={encoder}", f"data.folder={folder}", *overrides]
    settings: LateSettings = load_recipe("late", CONFIGS / "late" / "tiny.yaml", names)
    return settings


@pytest.mark.slow
def test_a_run_leaves_a_projection_that_has_learned(home: Path, tiny_decoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path, ("red",))
    settings, out = tiny(tmp_path, tiny_decoder, "loop.steps=25"), tmp_path / "out"
    run(settings, Run(out))
    lines = record.read(out)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    before, after = (line["validation_answer_in_1"] for line in lines if "validation_answer_in_1" in line)
    assert after >= max(before, lines[0]["validation_hybrid_answer_in_1"])
    reader = tmp_path / "reader"
    with pytest.raises(ModelError, match="no late"):
        open_reranker(f"late:{reader}", "cpu")
    shutil.copy(out / PROJECTION, reader)
    reranker = open_reranker(f"late:{reader}", "cpu")
    assert reranker is not None
    assert np.ptp(reranker.scores("colour of thing 3", passages(["snow thing 3 is red", "snow sun"]))) > 0


def test_a_second_run_reads_the_encodings_of_the_first(
    home: Path, tiny_decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coloured_questions(tmp_path)
    settings = tiny(tmp_path, tiny_decoder, "loop.steps=2")
    results = []
    for _ in range(2):
        run(settings, Run(tmp_path / "out"))
        results.append(load_file(tmp_path / "out" / PROJECTION))
        size = (home / "encodings" / "passages.sqlite").stat().st_size
    assert (home / "encodings" / "passages.sqlite").stat().st_size == size
    for name, tensor in results[0].items():
        np.testing.assert_allclose(results[1][name], tensor, rtol=1e-2, atol=1e-2)
    assert json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[0])["step"] == 0


def test_a_time_limit_leaves_the_projection_so_far(home: Path, tiny_decoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path)
    run(tiny(tmp_path, tiny_decoder), Run(tmp_path / "out", deadline=0.0, clock=lambda: 1.0))
    assert (tmp_path / "out" / PROJECTION).is_file()
    assert not [line for line in record.read(tmp_path / "out") if "loss" in line]


def test_an_invalid_setting_and_an_untrained_reader_are_named(home: Path, tiny_decoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path)
    with pytest.raises(ConfigError, match=r"model\.dimension"):
        tiny(tmp_path, tiny_decoder, "model.dimension=0")
    untrained = tiny(tmp_path, tiny_decoder).model_copy(update={"model": LateModelSettings(reader=str(tiny_decoder))})
    with pytest.raises(ModelError, match="no trained CEPE reader"):
        run(untrained, Run(tmp_path / "out"))
