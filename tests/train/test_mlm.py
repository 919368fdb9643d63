"""Masked language modelling: which tokens are masked, what is learned, and that the warm-up starts from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from ragx_train.cli import load_recipe
from ragx_train.data.example import IGNORE, collate
from ragx_train.engine import log as record
from ragx_train.engine.model import reader_to_train
from ragx_train.engine.prediction_head import PredictionHead
from ragx_train.recipes.mlm import MlmSettings, mask_id, masked, masked_token_loss
from ragx_train.settings import ModelSettings
from safetensors.torch import load_file

from ragx import cepe
from ragx.errors import ConfigError
from ragx.util.tokenization import Tokenizer, load_tokenizer
from tests.helpers.tiny_runs import CONFIGS, run_recipe, tiny_settings, write_documents

MASK = 1000
STANDALONE = "model.encoder={layers: 2, width: 16, heads: 2, intermediate_size: 24}"


def masking(share: float, how: str = "share") -> MlmSettings:
    return load_recipe("mlm", CONFIGS / "mlm" / "tiny.yaml", [f"masked={share}", f"masking={how}"])  # type: ignore[no-any-return]


def test_each_token_can_be_masked_by_chance() -> None:
    settings, ids = masking(0.3, "bernoulli"), list(range(200))
    counts = [masked((ids, "it"), settings, MASK, np.random.default_rng(seed)).ids.count(MASK) for seed in range(200)]
    assert abs(np.mean(counts) - 60) < 2  # four standard errors: 6.5 / √200 · 4
    assert abs(np.std(counts) - 6.48) < 1.3  # √(200 · 0.3 · 0.7); a fixed share has none
    alone = [masked(([5], "it"), settings, MASK, np.random.default_rng(seed)).ids for seed in range(20)]
    assert alone == [[MASK]] * 20, "at least one"


@given(st.lists(st.integers(0, 99), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_share_of_the_tokens_is_replaced_by_the_mask_token(ids: list[int], share: float, seed: int) -> None:
    example = masked((ids, "it"), masking(share), MASK, np.random.default_rng(seed))
    places = [place for place, token in enumerate(example.ids) if token == MASK]
    assert len(places) == max(1, round(share * len(ids)))
    for place, token in enumerate(ids):
        assert example.labels[place] == (token if place in places else IGNORE)
        assert place in places or example.ids[place] == token
    assert example.passages == [example.ids]


def test_which_tokens_are_masked_is_random() -> None:
    ids = list(range(50))
    drawn = [masked((ids, "it"), masking(0.3), MASK, np.random.default_rng(seed)).ids for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_mask_token_is_the_one_named_or_the_tokenizer_s(decoder: Path) -> None:
    tokenizer = load_tokenizer(decoder)
    assert mask_id("<|im_start|>", tokenizer) == 1
    assert mask_id(None, tokenizer) == tokenizer.pad_token_id == 0
    special = {"pad_token": "<|endoftext|>", "unk_token": "<|im_end|>", "mask_token": "<|im_start|>"}
    assert mask_id(None, Tokenizer(tokenizer.backend, special, None)) == 1
    del special["mask_token"]
    assert mask_id(None, Tokenizer(tokenizer.backend, special, None)) == 2
    with pytest.raises(ConfigError, match="'<mask>' is not in"):
        mask_id("<mask>", tokenizer)
    with pytest.raises(ConfigError, match="set mask_token"):
        mask_id(None, Tokenizer(tokenizer.backend, {}, None))


@pytest.mark.parametrize(
    "encoder",
    [{"encoder_layers": [0, 1]}, {"encoder": {"layers": 2, "width": 16, "heads": 2, "intermediate_size": 24}}],
)
def test_the_loss_is_that_of_the_masked_tokens(encoder: dict[str, object], decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    settings = tiny_settings("mlm", decoder, tmp_path)
    chosen = {"decoder": str(decoder), "cross_attention_layers": [0], **encoder}
    model, _ = reader_to_train(ModelSettings.model_validate(chosen), settings.loop)
    texts = [list(range(50, 63)), list(range(80, 93))]
    batch = collate([masked((ids, "it"), masking(0.3), 0, np.random.default_rng(3)) for ids in texts])
    output = model.lm_head.weight if model.encoder.embed_tokens is None else model.encoder.embed_tokens.weight
    expected = 0.0
    for read, labels in zip(batch.passages, batch.labels[:, :13], strict=True):
        logits = model.encode(read[None, None]).phi[0] @ output.T  # (L, V)
        expected += float(F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum").detach())
    assert float(masked_token_loss(model, batch)["loss"].detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("standalone", [False, True], ids=["decoder layers", "standalone"])
def test_the_encoder_learns_alone_and_the_warm_up_starts_from_it(
    standalone: bool, decoder: Path, tmp_path: Path
) -> None:
    write_documents(tmp_path)
    encoder = ["model.encoder_layers=[]", STANDALONE] if standalone else []
    # the default, the padding token, has a zero embedding in the random decoder: its queries cannot learn anything
    settings = tiny_settings("mlm", decoder, tmp_path, "mask_token=<|im_start|>", *encoder)
    before = reader_to_train(settings.model, settings.loop)[0].state_dict()
    run_recipe("mlm", tmp_path / "mlm", settings)
    losses = [each["loss"] for each in record.read(tmp_path / "mlm") if "loss" in each]
    assert losses[-1] < losses[0] - 1
    after = cepe.load(str(tmp_path / "mlm" / "reader"), dtype="float32", device="cpu")
    for name, weight in after.state_dict().items():
        assert torch.equal(weight, before[name]) == (not name.startswith("encoder.")), name
    assert set(load_file(tmp_path / "mlm" / "checkpoints" / "step-00000030" / "weights.safetensors")) == {
        name for name in before if name.startswith("encoder.")
    }
    warmup = tiny_settings("warmup", decoder, tmp_path, *encoder, f"model.init_from={tmp_path / 'mlm'}", "loop.steps=2")
    run_recipe("warmup", tmp_path / "warmup", warmup)
    first = load_file(tmp_path / "warmup" / "reader" / "model.safetensors")
    assert torch.allclose(first["encoder.norm.weight"], after.encoder.norm.weight, atol=0.05)
    with pytest.raises(ConfigError, match="model.init_from: encoder is" if standalone else "number of encoder_layers"):
        run_recipe(
            "warmup",
            tmp_path / "other",
            tiny_settings(
                "warmup", decoder, tmp_path, f"model.init_from={tmp_path / 'mlm'}", "model.encoder_layers=[0, 1]"
            ),
        )


def test_mlm_refuses_a_frozen_encoder(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.frozen_encoder"):
        tiny_settings("mlm", decoder, tmp_path, "model.frozen_encoder=true")


OWN = (
    "model.encoder={layers: 2, width: 16, heads: 2, intermediate_size: 24, window: 40, norm_epsilon: 1.0e-6,"
    " mask_token: true}"
)


def test_the_authors_encoder_has_a_mask_token_and_a_head_in_training(decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    given = ["model.encoder_layers=[]", OWN, "model.output_gain=0", "head=true", "masking=bernoulli", "loop.steps=3"]
    settings = tiny_settings("mlm", decoder, tmp_path, *given)
    run_recipe("mlm", tmp_path / "out", settings)
    reader = cepe.load(str(tmp_path / "out" / "reader"), dtype="float32", device="cpu")
    words = reader.model.embed_tokens.weight.shape[0]
    encoder = reader.config.encoder_config
    assert reader.encoder.embed_tokens is not None
    assert reader.encoder.embed_tokens.weight.shape == (words + 1, 16)
    assert (encoder.max_position_embeddings, encoder.rms_norm_eps) == (40, 1e-6)
    assert not any("head" in name for name in load_file(tmp_path / "out" / "reader" / "model.safetensors"))
    steps = [f"model.init_from={tmp_path / 'out'}", "loop.steps=1", "model.output_gain=0", "model.encoder_layers=[]"]
    run_recipe("warmup", tmp_path / "next", tiny_settings("warmup", decoder, tmp_path, *steps, OWN))
    with pytest.raises(ConfigError, match="not both"):
        tiny_settings("mlm", decoder, tmp_path, *given, "mask_token=<|im_start|>")


def test_the_head_is_a_dense_layer_silu_and_a_norm(decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    settings = tiny_settings("mlm", decoder, tmp_path, "model.encoder_layers=[]", OWN, "model.output_gain=0")
    model, _ = reader_to_train(settings.model, settings.loop)
    model.prediction_head = head = PredictionHead(16, 1e-6, 0)
    batch = collate([masked((list(range(50, 63)), "it"), masking(0.3), 0, np.random.default_rng(3))])
    hidden = model.encode(batch.passages[None]).phi[0] @ head.dense.weight.T + head.dense.bias
    hidden = hidden / (1 + torch.exp(-hidden))
    hidden = hidden / (hidden.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * head.norm.weight
    logits = hidden @ model.encoder.embed_tokens.weight.T
    expected = F.cross_entropy(logits, batch.labels[0, :13], ignore_index=IGNORE, reduction="sum")
    assert float(masked_token_loss(model, batch)["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
