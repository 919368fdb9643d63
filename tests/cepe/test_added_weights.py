"""Readers saved without their decoder."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ragx import cepe
from ragx.cepe.added_weights import quantize_reader, save_reader
from ragx.cepe.fresh import fresh
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.config import EncodingOptions
from ragx.errors import ConfigError, ModelError
from ragx.reader.loading import open_reader
from tests.helpers.tiny import VOCABULARY, save_decoder, with_config

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


def test_a_saved_reader_loads_unchanged_and_holds_none_of_its_decoders_weights(
    tmp_path: Path, decoder: Path, reader: CepeModel
) -> None:
    reader.config.trained_context_tokens = 512
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    stored = load_file(tmp_path / "reader" / "model.safetensors")
    assert all(key.startswith("encoder.") or ".cross_attn." in key for key in stored)
    assert not any(tensor.shape[0] == VOCABULARY for tensor in stored.values())
    loaded = load(tmp_path / "reader")
    torch.testing.assert_close(logits(loaded), logits(reader), rtol=1e-5, atol=1e-5)
    assert loaded.is_trained
    assert loaded.config.trained_context_tokens == 512
    assert Path(loaded.name_or_path) == decoder  # where its tokenizer is


def test_the_draft_of_an_interrupted_save_is_ignored(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    (tmp_path / "reader" / ".model.safetensors").write_bytes(b"half a he")
    torch.testing.assert_close(logits(load(tmp_path / "reader")), logits(reader), rtol=1e-5, atol=1e-5)


def test_a_saved_reader_keeps_its_choice_of_layers(tmp_path: Path, decoder: Path) -> None:
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
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"encoder_layers": [0, 3]}, "0 to 2, got 3"),
        ({"cross_attention_layers": [-1]}, "got -1"),
        ({"encoder_layers": [1, 2], "shared_encoder_layers": 1}, "decoder's first"),
    ],
)
def test_nonexistent_layers_are_refused(decoder: Path, choice, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fresh(decoder, Placement(torch.float32, "cpu"), **choice)


def test_int8_is_a_quarter_of_float32_and_close_to_it(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "int8")
    original, quantized = (load_file(tmp_path / name / "model.safetensors") for name in ("float32", "int8"))
    size, quantized_size = (sum(tensor.nbytes for tensor in file.values()) for file in (original, quantized))
    assert quantized_size < size / 3  # rows are short here, so their scales count
    loaded = load(tmp_path / "int8")
    for key, tensor in loaded.state_dict().items():
        if key in original:
            step = original[key].abs().amax(dim=-1, keepdim=True) / 127
            assert ((tensor - original[key]).abs() <= step * 0.51).all()
    torch.testing.assert_close(logits(loaded).softmax(-1), logits(reader).softmax(-1), rtol=0, atol=0.02)


def test_quantizing_can_set_the_prompted_gain(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "half", prompted_gain=0.5)
    assert load(tmp_path / "float32").config.prompted_gain == 1
    assert load(tmp_path / "half").config.prompted_gain == 0.5


def test_quantizing_can_set_which_passages_are_read(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "int8", within=2.5)

    def within(name: str) -> float:
        return open_reader(EncodingOptions(model=str(tmp_path / name), device="cpu", cache_size=0)).within

    assert (within("float32"), within("int8")) == (math.inf, 2.5)
    rewrite(tmp_path / "int8", {**configuration(tmp_path / "int8"), "within": "near"})
    with pytest.raises(ModelError, match="within in config"):
        within("int8")


def configuration(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / "config.json").read_text())
    return values


def rewrite(folder: Path, values: dict[str, object]) -> None:
    """Give a reader another configuration, only in `config.json`, as earlier versions did."""
    (folder / "config.json").write_text(json.dumps(values))
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={"format": "pt"})


def test_an_interrupted_save_does_not_mix_two_readers(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    """The weights are new, `config.json` is still that of the previous reader."""
    folder, other = tmp_path / "reader", tmp_path / "other"
    save_reader(reader, folder, decoder=str(decoder))
    quantize_reader(folder, other, prompted_gain=0.5)
    (other / "model.safetensors").replace(folder / "model.safetensors")
    assert load(folder).config.prompted_gain == 0.5


def test_a_reader_of_an_earlier_version_loads(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    rewrite(tmp_path / "reader", {**configuration(tmp_path / "reader"), "prompted_gain": 0.25})
    assert load(tmp_path / "reader").config.prompted_gain == 0.25


def test_quantizing_can_let_the_question_alone_attend(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "int8", cross_attend="question")
    assert load(tmp_path / "int8").cross_attend == "question"


def test_a_saved_reader_says_which_tokens_attend(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "all", decoder=str(decoder))
    save_reader(with_config(reader, cross_attend="question"), tmp_path / "question", decoder=str(decoder))
    assert load(tmp_path / "all").cross_attend == "all"
    assert load(tmp_path / "question").cross_attend == "question"


@pytest.mark.parametrize("key", ["prompted_gain", "trained_context_tokens", "cross_attend"])
def test_an_invalid_setting_is_refused(tmp_path: Path, decoder: Path, reader: CepeModel, key: str) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    rewrite(tmp_path / "reader", {**configuration(tmp_path / "reader"), key: "much"})
    with pytest.raises(ModelError, match="is damaged"):
        load(tmp_path / "reader")


@pytest.mark.parametrize("gain", [-1.0, float("nan"), float("inf")])
def test_an_invalid_gain_is_refused(tmp_path: Path, decoder: Path, reader: CepeModel, gain: float) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    with pytest.raises(ConfigError, match="prompted_gain must be"):
        quantize_reader(tmp_path / "float32", tmp_path / "int8", gain)
    assert not (tmp_path / "int8").exists()


def test_only_a_floating_point_reader_can_be_quantized(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "int8")
    with pytest.raises(ModelError, match="already in int8"):
        quantize_reader(tmp_path / "int8", tmp_path / "again")
    with pytest.raises(ModelError, match="includes its decoder"):
        quantize_reader(decoder, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_derivative_of_the_decoder_takes_its_place(
    tmp_path: Path, decoder: Path, reader: CepeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given by name, or at the path of the reader's own decoder."""
    folder = tmp_path / "reader"
    save_reader(reader, folder, decoder=str(decoder))
    own = load(folder)
    assert "not the decoder" not in capsys.readouterr().err
    tuned = Path(shutil.copytree(decoder, tmp_path / "tuned"))
    weights = load_file(tuned / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    for _ in range(2):
        model = cepe.load(str(folder), dtype="float32", device="cpu", decoder=str(tuned))
        assert capsys.readouterr().err.count("is not the decoder that the reader was trained with") == 1
        assert torch.equal(model.model.norm.weight, own.model.norm.weight + 1)
        assert model.name_or_path == str(tuned)
        for name, tensor in own.state_dict().items():
            if ".cross_attn." in name or name.startswith("encoder."):
                assert torch.equal(model.state_dict()[name], tensor)
    shutil.copy(tuned / "model.safetensors", decoder / "model.safetensors")
    assert torch.equal(logits(load(folder)), logits(model))
    assert capsys.readouterr().err.count("is not the decoder") == 1


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("qwen2", {"vocab_size": VOCABULARY + 10}, "its vocab_size is 210, not 200"),
        ("llama", {}, "its model_type is llama, not qwen2"),
        ("qwen2", {"num_hidden_layers": 2}, "which has only 2 layers"),
        ("qwen2", {"hidden_size": 64}, "do not fit the model"),
    ],
)
def test_a_decoder_of_another_shape_is_refused(
    tmp_path: Path, decoder: Path, reader: CepeModel, family: str, changes: dict[str, int], message: str
) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    save_decoder(tmp_path / "other", family, **changes)
    with pytest.raises(ModelError, match=message):
        cepe.load(str(tmp_path / "reader"), dtype="float32", device="cpu", decoder=str(tmp_path / "other"))
    with pytest.raises(ModelError, match="only a reader saved without its decoder"):
        cepe.load(str(decoder), dtype="float32", device="cpu", decoder=str(decoder))


def test_a_missing_decoder_is_named(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    decoder.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="decoder does not exist"):
        load(tmp_path / "reader")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.pop("encoder.norm.weight"), r"missing: encoder\.norm\.weight"),
        (lambda stored: stored.update({"encoder.stray": torch.ones(1)}), r"do not fit the model: encoder\.stray"),
        (lambda stored: stored.update({"encoder.norm.weight": torch.ones(3)}), r"encoder\.norm\.weight is \(3,\)"),
        (lambda stored: stored.pop("encoder.layers.0.mlp.up_proj.weight.scale"), r"up_proj\.weight\.scale"),
    ],
)
def test_keys_and_shapes_must_match(tmp_path: Path, decoder: Path, reader: CepeModel, change, message: str) -> None:
    save_reader(reader, tmp_path / "float32", decoder=str(decoder))
    quantize_reader(tmp_path / "float32", tmp_path / "reader")
    path = tmp_path / "reader" / "model.safetensors"
    stored = load_file(path)
    change(stored)
    save_file(stored, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "reader")


@pytest.mark.parametrize("key", ["encoder_config", "cross_attention_layers"])
def test_a_missing_setting_is_named(tmp_path: Path, decoder: Path, reader: CepeModel, key: str) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    values = configuration(tmp_path / "reader")
    del values[key]
    rewrite(tmp_path / "reader", values)
    with pytest.raises(ModelError, match=key):
        load(tmp_path / "reader")


def test_truncated_weights_are_refused(tmp_path: Path, decoder: Path, reader: CepeModel) -> None:
    save_reader(reader, tmp_path / "reader", decoder=str(decoder))
    path = tmp_path / "reader" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load(tmp_path / "reader")
