"""A cross-encoder learns to order passages: the run, its loss and its settings."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ragx_train.cli import load_recipe
from ragx_train.data.ranking import load_ranking
from ragx_train.engine import log as record
from ragx_train.engine.cross_encoder import AnswersFound, ListwiseLoss, answered, fresh_cross_encoder
from ragx_train.engine.loop import Run
from ragx_train.recipes.reranker import RerankerSettings, run
from safetensors.torch import load_file

from ragx.errors import ConfigError, ModelError
from ragx.retrieval.rerankers import open_reranker
from ragx.retrieval.rerankers.stored import quantize_reranker
from tests.helpers.tiny_cross_encoders import pair_tokenizer
from tests.helpers.tiny_encoders import save_encoder
from tests.helpers.tiny_runs import CONFIGS, write_coloured_questions
from tests.helpers.toy_embedders import passage

PAIRS = [("a cup", ["the cup is red", "rain", "the red sun of a long day in the far north"]), ("rain", ["sun", "rain"])]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_encoder(tmp_path_factory.mktemp("encoder"))
    pair_tokenizer().save_pretrained(folder)
    return folder


def settings_for(encoder: Path, folder: Path, *overrides: str) -> RerankerSettings:
    names = [f"model.base={encoder}", f"data.embedder={encoder}", f"data.folder={folder}", *overrides]
    settings: RerankerSettings = load_recipe("reranker", CONFIGS / "reranker" / "tiny.yaml", names)
    return settings


def losses(out: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in record.read(out) if "loss" in line]


@pytest.mark.slow
def test_a_run_leaves_a_reranker_that_has_learned(encoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path, ("red",))
    out = tmp_path / "out"
    run(settings_for(encoder, tmp_path, "loop.steps=60", "loop.validate_every=60"), Run(out))
    before, *_, after = losses(out)
    assert after[1] < 0.7 * before[1]
    (validation,) = (line for line in record.read(out) if "validation_answer_in_1" in line)
    assert validation["validation_answer_in_1"] > validation["validation_hybrid_answer_in_1"]
    quantize_reranker(out / "model", tmp_path / "int8", str(encoder))
    texts = [passage(0, "snow thing 3 is red"), passage(1, "snow sun thing 3")]
    for model in (out / "model", tmp_path / "int8"):
        reranker = open_reranker(str(model), "cpu")
        assert reranker is not None
        red, snow = reranker.scores("colour of thing 3", texts)
        assert red > snow


def test_embeddings_stay_those_of_the_embedder(encoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path)
    run(settings_for(encoder, tmp_path, "loop.steps=2"), Run(tmp_path / "out"))
    base, trained = (load_file(folder / "model.safetensors") for folder in (encoder, tmp_path / "out" / "model"))
    same = {name for name, weight in base.items() if torch.equal(weight, trained[f"bert.{name}"])}
    assert {name for name in base if name.startswith("embeddings.")} == {
        name for name in same if not name.startswith("pooler.")
    }


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_that_is_stopped_and_resumed_ends_as_one_that_is_not(steps: int, encoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path)
    settings = settings_for(encoder, tmp_path, "loop.steps=5", "loop.validate_every=5", "loop.checkpoint_every=3")
    run(settings, Run(tmp_path / "whole"))
    ticks = iter(range(1000))
    deadline = 2.0 * steps + 2  # the clock is read at the beginning and the end of a step
    run(settings, Run(tmp_path / "parts", deadline=deadline, clock=lambda: float(next(ticks))))
    assert (tmp_path / "parts" / "model" / "model.safetensors").exists(), "a time limit leaves a model too"
    assert not any("validation_answer_in_1" in line for line in record.read(tmp_path / "parts"))
    with pytest.raises(ConfigError, match="--resume"):
        run(settings, Run(tmp_path / "parts"))
    run(settings, Run(tmp_path / "parts", resume=True))
    whole, parts = (load_file(tmp_path / out / "model" / "model.safetensors") for out in ("whole", "parts"))
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight)


def test_a_run_resumes_only_with_its_settings_questions_and_model(encoder: Path, tmp_path: Path) -> None:
    path = write_coloured_questions(tmp_path)
    copy = shutil.copytree(encoder, tmp_path / "encoder")
    settings = settings_for(copy, tmp_path, "loop.steps=2")
    out = tmp_path / "out"
    run(settings, Run(out, deadline=time.monotonic()))
    with pytest.raises(ConfigError, match=r"data\.negatives is 2"):
        run(settings_for(copy, tmp_path, "loop.steps=2", "data.negatives=2"), Run(out, resume=True))
    path.write_text(path.read_text().replace("colour of", "shade of"))
    with pytest.raises(ConfigError, match=r"data\.files: its content has changed"):
        run(settings, Run(out, resume=True))
    path.write_text(path.read_text().replace("shade of", "colour of"))
    save_encoder(copy, intermediate_size=32)
    with pytest.raises(ConfigError, match=r"model\.base: its content has changed"):
        run(settings, Run(out, resume=True))


def test_the_loss_is_the_cross_entropy_of_the_first_passage(encoder: Path) -> None:
    model = fresh_cross_encoder(encoder, 64)
    expected = []
    for question, texts in PAIRS:
        scores = torch.tensor(model.predict([(question, text) for text in texts], activation_fn=torch.nn.Identity()))
        expected.append(-scores.softmax(0)[0].log())
    loss = ListwiseLoss(model)([[question for question, _ in PAIRS], [texts for _, texts in PAIRS]])
    torch.testing.assert_close(loss.detach(), torch.stack(expected).mean())


def test_control_strings_in_passages_are_text(encoder: Path) -> None:
    model = fresh_cross_encoder(encoder, 64)
    ids = model.preprocess([("a", "b [SEP] c")])["input_ids"][0].tolist()
    assert ids.count(model.tokenizer.sep_token_id) == 2


def test_answers_found_in_the_first_passages() -> None:
    found = [[False, True, False], [True, False, False], [False, False, False], [False] * 4 + [True]]
    assert answered(found) == {"answer_in_1": 25.0, "answer_in_3": 50.0, "answer_in_5": 75.0}


def test_validation_orders_what_hybrid_search_found(encoder: Path, tmp_path: Path) -> None:
    write_coloured_questions(tmp_path)
    ranking = load_ranking(settings_for(encoder, tmp_path).data, tmp_path / "data", 0)
    model = fresh_cross_encoder(encoder, 64)
    figures = AnswersFound(ranking, 100, bf16=False)(model)
    hits = []
    for each in ranking.held_out:
        pairs = [(each.question, ranking.text(row)) for row in each.ranking]
        scores = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        hits.append([each.answered[place] for place in np.argsort(-scores, kind="stable")])
    assert figures == answered(hits) | {
        f"hybrid_{name}": value for name, value in answered([each.answered for each in ranking.held_out]).items()
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.shard=true", "shard"),
        ("loop.micro_batch=3", "multiple of loop.micro_batch"),
        ("data.same_article=4", "same_article"),
        ("data.negative=3", "data.negative"),
        ("model.max_tokens=0", "max_tokens"),
    ],
)
def test_an_invalid_setting_is_named(override: str, message: str, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_for(encoder, tmp_path, override)


def test_a_folder_without_a_transformer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot become a cross-encoder"):
        fresh_cross_encoder(tmp_path, 64)
