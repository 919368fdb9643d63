"""Readers are saved and loaded unchanged, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ragx import cepe
from ragx.cepe.loading import load_checkpoint
from ragx.cepe.placement import Placement
from ragx.errors import ModelError
from tests.helpers.fresh_readers import FAMILIES, load, tokens, train
from tests.helpers.tiny import save_decoder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_reader_loads_unchanged(tmp_path: Path, family: str) -> None:
    save_decoder(tmp_path / "decoder", family, **FAMILIES[family])
    reader = load(tmp_path / "decoder")
    train(reader)
    reader.save_pretrained(tmp_path / "reader")
    loaded = load_checkpoint(tmp_path / "reader", Placement(torch.float32, "cpu"))
    with torch.no_grad():
        expected = reader(tokens(1, 6), encoder_input_ids=tokens(1, 2, 7)).logits
        logits = loaded(tokens(1, 6), encoder_input_ids=tokens(1, 2, 7)).logits
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_released_checkpoints_keep_their_layout_when_saved(tmp_path: Path, shared: Path) -> None:
    source = shared / "reference" / "cepe-tiny-gqa"
    load_checkpoint(source, Placement(torch.float32, "cpu")).save_pretrained(tmp_path)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path))
    for values in (before, after):
        values |= {f"encoder_{key}": value for key, value in values.pop("encoder_config").items()}
    sizes = ["architectures", "num_cross_attn_layers", "encoder_hidden_size", "hidden_size", "num_hidden_layers"]
    same = [*sizes, "rope_theta", "encoder_rope_theta", "encoder_num_hidden_layers", "vocab_size", "rms_norm_eps"]
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    old, new = (load_file(folder / "model.safetensors") for folder in (source, tmp_path))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) for key in old)


def test_cross_attention_can_be_limited_to_some_layers(tmp_path: Path, shared: Path) -> None:
    source = shared / "reference" / "cepe-tiny-gqa"
    weights = load_file(source / "model.safetensors")
    values = json.loads((source / "config.json").read_text())
    for changes, layers in (({"num_cross_attn_layers": 2}, [2, 3]), ({"cross_attention_layers": [0, 3]}, [0, 3])):
        (tmp_path / "config.json").write_text(json.dumps({**values, **changes}))
        others = tuple(f"model.layers.{layer}.cross_attn." for layer in range(4) if layer not in layers)
        kept = {key: value for key, value in weights.items() if not key.startswith(others)}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        model = load_checkpoint(tmp_path, Placement(torch.float32, "cpu"))
        assert [layer for layer in range(4) if model.model.layers[layer].cross_attn is not None] == layers
        with torch.no_grad():
            ids = torch.arange(3, 12)[None]
            with_passages = model(ids, encoder_input_ids=ids[None]).logits
            assert (with_passages - model(ids).logits).abs().max() > 1e-3


def test_an_unsupported_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    with pytest.raises(ModelError, match="'gpt2' is not supported"):
        load(tmp_path)


def test_settings_that_do_not_fit_the_weights_are_refused(tmp_path: Path) -> None:
    save_decoder(tmp_path)
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')  # the sizes of a 7B model
    with pytest.raises(ModelError, match="disagree on layers"):
        load(tmp_path)
    config.write_text('{"model_type": "llama", "num_hidden_layers": 3}')
    with pytest.raises(ModelError, match="disagree on vocabulary"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_key_value_heads", 3),
        ("num_attention_heads", 0),
        ("num_attention_heads", "x"),
        ("max_position_embeddings", "a"),
        ("rms_norm_eps", None),
        ("rope_parameters", 5),
        ("eos_token_id", "x"),
        ("hidden_act", "nope"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(tmp_path: Path, setting: str, value: object) -> None:
    save_decoder(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, setting: value}))
    with pytest.raises(ModelError, match=r"is damaged|do not fit") as error:
        load(tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_an_invalid_encoder_configuration_is_refused(tmp_path: Path, shared: Path) -> None:
    source = shared / "reference" / "cepe-tiny-mha"
    (tmp_path / "model.safetensors").symlink_to(source / "model.safetensors")
    values = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "encoder_config": 5}))
    with pytest.raises(ModelError, match="is damaged"):
        load_checkpoint(tmp_path, Placement(torch.float32, "cpu"))


def test_a_decoders_generation_config_sets_only_special_tokens(tmp_path: Path) -> None:
    save_decoder(tmp_path)
    values = {"do_sample": True, "temperature": 5.0, "num_beams": 3, "repetition_penalty": 9.0, "eos_token_id": [2, 7]}
    (tmp_path / "generation_config.json").write_text(json.dumps(values))
    model = load(tmp_path)
    assert model.generation_config.eos_token_id == [2, 7]
    ids = torch.arange(3, 12)[None]
    torch.manual_seed(0)
    answer = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8)
    for _ in range(3):
        assert torch.equal(model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8), answer)
    logits = model(answer[:, :-1]).logits[0, ids.shape[1] - 1 :]
    assert torch.equal(logits.argmax(-1), answer[0, ids.shape[1] :])


def test_missing_and_unexpected_weights_are_listed(tmp_path: Path, shared: Path) -> None:
    source = shared / "reference" / "cepe-tiny-mha"
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    weights = load_file(source / "model.safetensors")
    removed = weights.pop("encoder.norm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing: encoder\.norm\.weight"):
        load_checkpoint(tmp_path, Placement(torch.float32, "cpu"))
    weights |= {"encoder.norm.weight": removed, "model.layers.1.stray.weight": torch.ones(1)}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"stray\.weight"):
        load_checkpoint(tmp_path, Placement(torch.float32, "cpu"))


def test_a_sharded_checkpoint_loads_like_a_single_file(tmp_path: Path, shared: Path) -> None:
    source = shared / "reference" / "cepe-tiny-gqa"
    whole = load_checkpoint(source, Placement(torch.float32, "cpu"))
    whole.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    parts = load_checkpoint(tmp_path, Placement(torch.float32, "cpu")).state_dict()
    assert all(torch.equal(parts[key], tensor) for key, tensor in whole.state_dict().items())
    next(tmp_path.glob("model-00002-*")).unlink()
    with pytest.raises(ModelError, match="is missing"):
        cepe.load(str(tmp_path), dtype="float32", device="cpu")
