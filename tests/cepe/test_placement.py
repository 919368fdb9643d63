"""Number formats, quantization, several devices, and too little memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from accelerate import infer_auto_device_map
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from ragx import cepe
from ragx.cepe import weights
from ragx.cepe.context import Context
from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError, ModelError
from tests.helpers.tiny import save_decoder

IDS = torch.arange(3, 12)[None]


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    save_decoder(tmp_path, hidden_size=64, intermediate_size=128, head_dim=16)
    return tmp_path


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_all_weights_have_the_requested_format(shared: Path, dtype: str) -> None:
    model = cepe.load(str(shared / "reference" / "cepe-tiny-gqa"), dtype=dtype, device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    with torch.no_grad():
        assert model(IDS, encoder_input_ids=IDS[None]).logits.isfinite().all()


@pytest.mark.parametrize("bits", [4, 8])
def test_only_the_decoders_matrices_are_quantized(decoder: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    model = cepe.load(str(decoder), dtype="bfloat16", device="cpu", bits=bits)
    layer = model.model.layers[0]
    assert layer.mlp.up_proj.weight.dtype == (torch.uint8 if bits == 4 else torch.int8)
    kept = [layer.cross_attn.q_proj, model.encoder.layers[0].mlp.up_proj, model.encoder.layers[1].self_attn.o_proj]
    assert {module.weight.dtype for module in kept} == {torch.bfloat16}


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_fresh_reader_has_its_quantized_decoders_logits(decoder: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    settings = BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["lm_head"],
    )
    plain = AutoModelForCausalLM.from_pretrained(
        decoder, dtype=torch.bfloat16, quantization_config=settings, device_map={"": "cpu"}
    )
    model = cepe.load(str(decoder), dtype="bfloat16", device="cpu", bits=bits)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS, encoder_input_ids=IDS[None]).logits, plain(IDS).logits)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_released_checkpoint_can_be_quantized(shared: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    folder = str(shared / "reference" / "cepe-tiny-mha")
    original = cepe.load(folder, dtype="bfloat16", device="cpu")
    quantized = cepe.load(folder, dtype="bfloat16", device="cpu", bits=bits)
    for name, parameter in quantized.named_parameters():
        if name.startswith("encoder.") or ".cross_attn." in name:
            assert torch.equal(parameter, original.get_parameter(name))
    with torch.no_grad():
        logits, expected = (reader(IDS, encoder_input_ids=IDS[None]).logits.float() for reader in (quantized, original))
    assert torch.nn.functional.cosine_similarity(logits, expected, dim=-1).min() > 0.9
    assert not torch.allclose(logits, expected)


def test_unsupported_bits_are_refused(decoder: Path) -> None:
    with pytest.raises(ConfigError, match="bits must be"):
        cepe.load(str(decoder), device="cpu", bits=3)


@pytest.fixture
def set_free_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the machine appear to have so many bytes free."""
    return lambda size: monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=size))


def test_weights_that_do_not_fit_into_memory_are_refused(
    decoder: Path, shared: Path, set_free_memory: Callable[[int], None]
) -> None:
    set_free_memory(100_000)
    with pytest.raises(ModelError, match="use fewer bits"):
        cepe.load(str(decoder), dtype="float32", device="cpu")
    with pytest.raises(ModelError, match="GB in bfloat16"):
        cepe.load(str(shared / "reference" / "cepe-tiny-gqa"), dtype="bfloat16", device="cpu")


def test_a_model_needs_as_much_memory_as_its_weights(decoder: Path, set_free_memory: Callable[[int], None]) -> None:
    model = cepe.load(str(decoder), dtype="float32", device="cpu")
    size = sum(parameter.nbytes for parameter in model.parameters())
    norms = sum(p.nbytes for name, p in model.named_parameters() if "norm" in name)

    set_free_memory(size + norms)
    cepe.load(str(decoder), dtype="float32", device="cpu")
    set_free_memory(size - norms - 1)
    with pytest.raises(ModelError, match="free"):
        cepe.load(str(decoder), dtype="float32", device="cpu")


def test_copies_of_the_weights_in_other_layouts_are_ignored(decoder: Path) -> None:
    before = weights.shapes(decoder)
    save_file({"layers.0.attention.wq.weight": torch.ones(64, 64)}, decoder / "consolidated.safetensors")
    assert weights.shapes(decoder) == before


def test_spreading_over_devices_splits_neither_layers_nor_the_encoder(decoder: Path) -> None:
    model = cepe.load(str(decoder), dtype="float32", device="cpu")
    size = sum(parameter.nbytes for parameter in model.parameters())
    places = infer_auto_device_map(
        model, {0: size // 2, 1: size}, no_split_module_classes=list(model._no_split_modules)
    )
    assert set(places.values()) == {0, 1}
    for name in places:
        assert not name.startswith("encoder.")
        assert name.startswith("model.layers.") <= (name.count(".") == 2)


def test_a_spread_model_has_the_same_logits(decoder: Path) -> None:
    """Both devices are the CPU, but accelerate's hooks are installed."""
    from accelerate import dispatch_model

    ids = IDS.view(1, 3, 3)
    model = cepe.load(str(decoder), dtype="float32", device="cpu")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.cross_attn.o_proj.weight.normal_()
        expected = model(IDS, encoder_input_ids=ids).logits
        places = {name: "cpu" for name, _ in model.named_children()}
        spread: CepeModel = dispatch_model(model, places, main_device="cpu", force_hooks=True)
        torch.testing.assert_close(spread(IDS, encoder_input_ids=ids).logits, expected, rtol=1e-5, atol=1e-5)
        assert spread.generate(IDS, encoder_input_ids=ids, max_new_tokens=3, do_sample=False).shape == (1, 12)


def test_a_context_has_one_copy_per_device_and_one_record_of_attention() -> None:
    context = Context(torch.randn(1, 4, 8), torch.ones(1, 4, dtype=torch.bool), [[0, 4]], record_attention=True)
    assert context.on(torch.device("cpu")) is context
    copy = context.on(torch.device("meta"))
    assert copy.phi.device.type == copy.mask.device.type == "meta"
    assert copy is context.on(torch.device("meta"))
    assert copy.record_attention
    copy.record(torch.zeros(1, 2, 1, 1))
    assert context.attention_shares().tolist() == [[1.0]]
