"""A reader kept as what it adds to its decoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ragx import cepe
from ragx.cepe.added_weights import quantize_reader, save_reader
from ragx.cepe.fresh import fresh
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.errors import ConfigError, ModelError
from tests.helpers.tiny import VOCABULARY, save_decoder

IDS = torch.arange(3, 12)[None]


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    save_decoder(tmp_path / "decoder", "qwen2")
    return tmp_path / "decoder"


@pytest.fixture
def reader(decoder: Path) -> CepeModel:
    torch.manual_seed(1)
    model = cepe.load(str(decoder), dtype="float32", device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("encoder.") or ".cross_attn." in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def load(folder: Path) -> CepeModel:
    return cepe.load(str(folder), dtype="float32", device="cpu")


def logits(model: CepeModel) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS, encoder_input_ids=IDS.view(1, 3, 3)).logits


def test_a_saved_reader_answers_as_before_and_holds_no_weight_of_its_decoder(
    tmp_path: Path, decoder: Path, reader: CepeModel
) -> None:
    reader.config.trained_context_tokens = 512
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    kept = load_file(tmp_path / "reader" / "model.safetensors")
    assert all(key.startswith("encoder.") or ".cross_attn." in key for key in kept)
    assert not any(tensor.shape[0] == VOCABULARY for tensor in kept.values())
    loaded = load(tmp_path / "reader")
    assert torch.equal(logits(loaded), logits(reader))
    assert loaded.is_trained
    assert loaded.config.trained_context_tokens == 512
    assert Path(loaded.name_or_path) == decoder  # where its tokenizer is


def test_the_draft_of_a_save_that_was_killed_changes_nothing(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    (tmp_path / "reader" / ".model.safetensors").write_bytes(b"half a he")
    assert torch.equal(logits(load(tmp_path / "reader")), logits(reader))


def test_a_reader_of_chosen_layers_keeps_its_choice(tmp_path: Path, decoder: Path) -> None:
    model = fresh(
        decoder,
        Placement(torch.float32, "cpu"),
        encoder_layers=[0, 2],
        shared_encoder_layers=1,
        cross_attention_layers=[1, 2],
        output_gain=0.5,
    )
    save_reader(model, tmp_path / "reader", decoder=str(decoder))
    assert not any(key.startswith("encoder.layers.0.") for key in load_file(tmp_path / "reader" / "model.safetensors"))
    loaded = load(tmp_path / "reader")
    assert [layer.cross_attn is not None for layer in loaded.model.layers] == [False, True, True]
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"encoder_layers": [0, 3]}, "the decoder has layers 0 to 2, no layer 3"),
        ({"cross_attention_layers": [-1]}, "no layer -1"),
        ({"encoder_layers": [1, 2], "shared_encoder_layers": 1}, r"must be the decoder's first, not \[1, 2\]"),
    ],
)
def test_layers_that_are_not_there_are_refused(decoder: Path, choice, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fresh(decoder, Placement(torch.float32, "cpu"), **choice)


def test_int8_takes_a_quarter_of_float32_and_stays_close(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "int8")
    plain, small = (load_file(tmp_path / name / "model.safetensors") for name in ("float32", "int8"))
    bytes_of = {name: sum(t.nbytes for t in kept.values()) for name, kept in (("plain", plain), ("small", small))}
    assert bytes_of["small"] < bytes_of["plain"] / 3  # rows here are short, so that scales weigh
    loaded = load(tmp_path / "int8")
    for key, tensor in loaded.state_dict().items():
        if key in plain:
            step = plain[key].abs().amax(dim=-1, keepdim=True) / 127
            assert ((tensor - plain[key]).abs() <= step * 0.51).all()
    torch.testing.assert_close(logits(loaded).softmax(-1), logits(reader).softmax(-1), rtol=0, atol=0.02)


def test_the_gain_beside_passages_in_the_prompt_is_kept(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "half", prompted_gain=0.5)
    assert load(tmp_path / "float32").config.prompted_gain == 1
    assert load(tmp_path / "half").config.prompted_gain == 0.5


def configuration(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / "config.json").read_text())
    return values


def rewrite(folder: Path, values: dict[str, object]) -> None:
    """Give a reader another configuration, which only `config.json` holds, as in readers of earlier versions."""
    (folder / "config.json").write_text(json.dumps(values))
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={"format": "pt"})


def test_a_writer_that_died_between_weights_and_config_leaves_one_reader(
    tmp_path: Path, decoder: Path, reader: CepeModel
) -> None:
    """The weights are in place, `config.json` is still that of the reader before."""
    folder, other = tmp_path / "reader", tmp_path / "other"
    save_reader(reader, folder, decoder=str(decoder))
    quantize_reader(folder, other, prompted_gain=0.5)
    (other / "model.safetensors").replace(folder / "model.safetensors")
    assert load(folder).config.prompted_gain == 0.5


def test_a_reader_of_an_earlier_version_loads(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    rewrite(tmp_path / "reader", {**configuration(tmp_path / "reader"), "prompted_gain": 0.25})
    assert load(tmp_path / "reader").config.prompted_gain == 0.25


@pytest.mark.parametrize("key", ["prompted_gain", "trained_context_tokens"])
def test_a_setting_that_is_no_number_is_one_line(tmp_path: Path, decoder: Path, reader: CepeModel, key: str) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    rewrite(tmp_path / "reader", {**configuration(tmp_path / "reader"), key: "much"})
    with pytest.raises(ModelError, match=r"config\.json is damaged: .*much"):
        load(tmp_path / "reader")


@pytest.mark.parametrize("gain", [-1.0, float("nan"), float("inf")])
def test_a_gain_that_is_none_is_refused(tmp_path: Path, decoder: Path, reader: CepeModel, gain: float) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    with pytest.raises(ConfigError, match="prompted_gain must be a number from 0 on"):
        quantize_reader(tmp_path / "float32", tmp_path / "int8", gain)
    assert not (tmp_path / "int8").exists()


def test_only_a_reader_in_floating_point_is_quantized(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "int8")
    with pytest.raises(ModelError, match="is in int8 already"):
        quantize_reader(tmp_path / "int8", tmp_path / "again")
    with pytest.raises(ModelError, match="is not a reader that is kept apart"):
        quantize_reader(decoder, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_another_decoder_than_the_one_trained_with_is_refused(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    weights = load_file(decoder / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, decoder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"trained around other weights than those of .*decoder"):
        load(tmp_path / "reader")


def test_a_decoder_that_has_gone_is_named(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    decoder.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"decoder does not exist"):
        load(tmp_path / "reader")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda kept: kept.pop("encoder.norm.weight"), r"weights are missing: encoder\.norm\.weight"),
        (lambda kept: kept.update({"encoder.stray": torch.ones(1)}), r"do not fit the model: encoder\.stray"),
        (lambda kept: kept.update({"encoder.norm.weight": torch.ones(3)}), r"encoder\.norm\.weight is \(3,\), not"),
        (
            lambda kept: kept.pop("encoder.layers.0.mlp.up_proj.weight.scale"),
            r"weights are missing: encoder\.layers\.0\.mlp\.up_proj\.weight\.scale",
        ),
    ],
)
def test_every_key_is_matched(tmp_path: Path, decoder: Path, reader: CepeModel, change, message: str) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "reader")
    path = tmp_path / "reader" / "model.safetensors"
    kept = load_file(path)
    change(kept)
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "reader")


@pytest.mark.parametrize("key", ["encoder_config", "cross_attention_layers"])
def test_a_setting_that_is_missing_is_named(tmp_path: Path, decoder: Path, reader: CepeModel, key: str) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    values = configuration(tmp_path / "reader")
    del values[key]
    rewrite(tmp_path / "reader", {"encoder_config": {}, **values} if key != "encoder_config" else values)
    with pytest.raises(ModelError, match=key if key != "encoder_config" else "encoder_config|not a|no decoder"):
        load(tmp_path / "reader")


def test_cut_weights_are_one_clear_line(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    path = tmp_path / "reader" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load(tmp_path / "reader")
