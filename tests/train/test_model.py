"""Which reader a stage starts from, and which of its weights are trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ragx_train.data.example import Example, collate
from ragx_train.engine.losses import next_token_loss
from ragx_train.engine.model import reader_to_train, trained
from ragx_train.settings import LoopSettings, ModelSettings
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ragx import cepe
from ragx.cepe.added_weights import quantize_reader
from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError
from tests.helpers.tiny_runs import run_recipe, tiny_settings, write_documents

LOOP = LoopSettings(steps=1, batch_size=1, micro_batch=1, learning_rate=1, precision="fp32")
CROSS = [f"model.layers.{layer}.cross_attn." for layer in (0, 1)]


def reader(decoder: Path, loop: LoopSettings = LOOP, **changes: object) -> CepeModel:
    layers = {"encoder_layers": [0, 1], "cross_attention_layers": [0, 1], **changes}
    return reader_to_train(ModelSettings.model_validate({"decoder": str(decoder), **layers}), loop)[0]


def test_only_encoder_and_cross_attention_are_trained(decoder: Path) -> None:
    model = reader(decoder)
    assert set(trained(model)) == {
        name for name, _ in model.named_parameters() if name.startswith(("encoder.", *CROSS))
    }


def test_first_layers_of_the_encoder_can_be_frozen(decoder: Path) -> None:
    names = set(trained(reader(decoder, frozen_encoder_layers=1)))
    assert not any(name.startswith("encoder.layers.0.") for name in names)
    assert {"encoder.norm.weight", "encoder.layers.1.mlp.up_proj.weight"} <= names


def test_the_whole_encoder_can_be_frozen(decoder: Path) -> None:
    assert all(name.startswith(tuple(CROSS)) for name in trained(reader(decoder, frozen_encoder=True)))


def test_a_random_encoder_shares_no_weights_with_the_decoder(decoder: Path) -> None:
    copied, random, again = reader(decoder), reader(decoder, random_encoder=True), reader(decoder, random_encoder=True)
    for name, weight in trained(copied).items():
        other = trained(random)[name]
        torch.testing.assert_close(other, trained(again)[name])
        if name.startswith("encoder.layers.") and weight.ndim == 2:
            assert not torch.isclose(weight, other).any(dim=1).all()
        elif ".cross_attn." in name:
            torch.testing.assert_close(weight, other)


def test_in_bf16_only_trained_weights_are_in_fp32(decoder: Path) -> None:
    model = reader(decoder, LOOP.model_copy(update={"precision": "bf16"}))
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad} == {torch.bfloat16}


def test_activation_checkpointing_gives_the_same_gradients(decoder: Path) -> None:
    ids = torch.arange(12)[None]
    gradients = []
    for checkpointing in (False, True):
        model = reader(decoder, LOOP.model_copy(update={"activation_checkpointing": checkpointing}), output_gain=0.5)
        context = model.encode(ids.view(1, 3, 4))
        hidden = model.model(input_ids=ids, context=context, use_cache=False).last_hidden_state
        hidden.square().sum().backward()
        gradients.append([weight.grad for weight in trained(model).values()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize("init", ["paper", "released"])
def test_cross_attention_starts_as_in_the_paper_or_its_code(init: str, decoder: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(decoder).state_dict()
    encoder = {"layers": 1, "width": 16, "heads": 2, "intermediate_size": 24}
    state = reader(decoder, encoder_layers=[], encoder=encoder, init=init).state_dict()
    for layer, cross in enumerate(CROSS):
        attention = f"model.layers.{layer}.self_attn."
        assert torch.equal(state[f"{cross}q_proj.weight"], plain[f"{attention}q_proj.weight"])
        for name in "kv":
            assert torch.equal(state[f"{cross}{name}_proj.weight"], plain[f"{attention}{name}_proj.weight"][:, :16])
        output = plain[f"{attention}o_proj.weight"]
        assert torch.equal(state[f"{cross}o_proj.weight"], output if init == "released" else torch.zeros_like(output))
        norm = plain[f"model.layers.{layer}.post_attention_layernorm.weight"]
        assert torch.equal(state[f"{cross}layernorm.weight"], norm)


def test_the_output_of_other_inits_is_not_scaled(decoder: Path) -> None:
    with pytest.raises(ValueError, match="output_gain goes with init induction"):
        reader(decoder, init="paper", output_gain=0.3)


@pytest.fixture
def earlier(decoder: Path, tmp_path: Path) -> Path:
    """The out folder of a short stage in bf16."""
    write_documents(tmp_path)
    settings = tiny_settings("warmup", decoder, tmp_path, "loop.steps=2", "loop.precision=bf16")
    run_recipe("warmup", tmp_path / "earlier", settings)
    return tmp_path / "earlier"


def test_a_stage_starts_from_the_fp32_weights_of_the_previous_one(decoder: Path, earlier: Path) -> None:
    stored = cepe.load(str(earlier / "reader"), dtype="float32", device="cpu").state_dict()
    loop = LOOP.model_copy(update={"precision": "bf16"})
    for folder in (earlier, earlier / "reader"):
        model = reader(decoder, loop, init_from=str(folder), encoder_layers=[0])
        for name, weight in trained(model).items():
            torch.testing.assert_close(weight, stored[name], rtol=1e-6, atol=0)  # bf16 would be off by 2e-3


def test_a_stage_can_start_from_a_named_int8_reader(
    decoder: Path, earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize_reader(earlier / "reader", tmp_path / "carried" / "small")
    monkeypatch.setattr("ragx.models.local.BUNDLED", tmp_path / "carried")
    stored = cepe.load("small", dtype="float32", device="cpu").state_dict()
    weights = trained(reader(decoder, init_from="small", encoder_layers=[0]))
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    for name, weight in weights.items():
        torch.testing.assert_close(weight, stored[name])


def test_an_unsuitable_initial_reader_is_refused(
    decoder: Path, earlier: Path, tiny_decoder: Path, tmp_path: Path
) -> None:
    for start in (str(tmp_path), "runs/untrained", "smollm2-135m-instruct"):
        with pytest.raises(ConfigError, match="is not a reader"):
            reader(decoder, init_from=start)
    with pytest.raises(ConfigError, match="number of encoder_layers"):
        reader(decoder, init_from=str(earlier))
    with pytest.raises(ConfigError, match="cross_attention_layers"):
        reader(decoder, init_from=str(earlier), encoder_layers=[0], cross_attention_layers=[1])
    with pytest.raises(ConfigError, match="decoder is"):
        reader(tiny_decoder, init_from=str(earlier), encoder_layers=[0])


STANDALONE = {"layers": 2, "width": 16, "heads": 2, "intermediate_size": 24}


@pytest.fixture
def pretrained(decoder: Path, tmp_path: Path) -> Path:
    """The out folder of a pre-trained standalone encoder."""
    write_documents(tmp_path)
    given = ["model.encoder_layers=[]", f"model.encoder={STANDALONE}", "model.output_gain=0", "loop.steps=2"]
    run_recipe("mlm", tmp_path / "mlm", tiny_settings("mlm", decoder, tmp_path, *given))
    return tmp_path / "mlm"


@pytest.fixture
def chat(decoder: Path, tmp_path: Path) -> Path:
    """`decoder`, fine-tuned."""
    model = AutoModelForCausalLM.from_pretrained(decoder)
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.mul_(1.1)
    model.save_pretrained(tmp_path / "chat")
    AutoTokenizer.from_pretrained(decoder).save_pretrained(tmp_path / "chat")
    return tmp_path / "chat"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_pretrained_encoder_can_get_another_decoder(
    precision: str, pretrained: Path, chat: Path, decoder: Path
) -> None:
    loop = LOOP.model_copy(update={"precision": precision})
    encoder: dict[str, object] = {"encoder_layers": [], "encoder": STANDALONE, "cross_attention_layers": [1]}
    model = reader(chat, loop, init_from=str(pretrained), **encoder)
    fresh = reader(chat, loop, **encoder).state_dict()
    stored = cepe.load(str(pretrained / "reader"), dtype="float32", device="cpu").state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, (stored if name.startswith("encoder.") else fresh)[name])
    assert str(model.name_or_path) == str(chat)


def test_the_other_decoder_must_have_the_vocabulary_of_the_encoder(pretrained: Path, chat: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat)
    tokenizer.add_tokens(["moonlight"])
    tokenizer.save_pretrained(chat)
    with pytest.raises(ConfigError, match="vocabulary"):
        reader(chat, init_from=str(pretrained), encoder_layers=[], encoder=STANDALONE)


def test_trained_cross_attention_cannot_get_another_decoder(
    pretrained: Path, chat: Path, decoder: Path, tmp_path: Path
) -> None:
    given = ["model.encoder_layers=[]", f"model.encoder={STANDALONE}", f"model.init_from={pretrained}", "loop.steps=1"]
    run_recipe("warmup", tmp_path / "warmup", tiny_settings("warmup", decoder, tmp_path, *given))
    with pytest.raises(ConfigError, match="decoder is"):
        reader(chat, init_from=str(tmp_path / "warmup"), encoder_layers=[], encoder=STANDALONE)


@pytest.mark.slow
def test_compiled_layers_give_the_same_loss_and_gradients(decoder: Path) -> None:
    results = []
    for compile in (False, True):
        model = reader(decoder, LOOP.model_copy(update={"compile": compile}))
        for length in (9, 16):  # another length is no other program
            ids = torch.arange(3, 3 + 2 * length).view(2, length)
            example = Example(ids[0].tolist(), ids[1].tolist(), [ids[1].tolist()], "a test")
            loss = next_token_loss(model, collate([example]))["loss"]
            loss.backward()
            results.append([loss.detach(), *(weight.grad.clone() for weight in trained(model).values())])
            model.zero_grad()
    for exact, compiled in zip(results[:2], results[2:], strict=True):
        for one, other in zip(exact, compiled, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@pytest.fixture
def released(decoder: Path, tmp_path: Path) -> Path:
    """A checkpoint in the authors' layout: decoder, encoder and cross-attention in one file."""
    model = reader(decoder, encoder_layers=[], encoder=STANDALONE).float()
    state = model.state_dict()
    for name, weight in state.items():
        if ".cross_attn." in name or name.startswith("encoder."):
            state[name] = torch.randn_like(weight) / 8 + 1e-6
    folder = tmp_path / "released"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    values = json.loads((decoder / "config.json").read_text())
    values |= {"encoder_config": model.config.encoder_config.to_dict(), "num_cross_attn_layers": 2}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_starts_from_a_released_checkpoint(
    precision: str, released: Path, decoder: Path, tmp_path: Path
) -> None:
    loop = LOOP.model_copy(update={"precision": precision})
    changes = {"encoder_layers": [], "encoder": STANDALONE}
    model = reader(decoder, loop, init_from=str(released), **changes)
    stored = load_file(released / "model.safetensors")
    weights = trained(model)
    assert {name for name in stored if name.startswith("encoder.") or ".cross_attn." in name} == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, stored[name]), "in fp32 as stored"
    assert str(model.name_or_path) == str(decoder)
    write_documents(tmp_path)
    given = ["model.encoder_layers=[]", f"model.encoder={STANDALONE}", f"model.init_from={released}", "loop.steps=1"]
    run_recipe("warmup", tmp_path / "out", tiny_settings("warmup", decoder, tmp_path, *given, "model.output_gain=0"))
    assert cepe.load(str(tmp_path / "out" / "reader"), device="cpu").is_trained


def test_a_released_checkpoint_has_one_decoder(released: Path, chat: Path) -> None:
    with pytest.raises(ConfigError, match="the decoder in"):
        reader(chat, init_from=str(released), encoder_layers=[], encoder=STANDALONE)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_starts_from_the_released_encoder(precision: str, decoder: Path, tmp_path: Path) -> None:
    """As the authors' masked language model is saved: a stack named `model`, tied output, a head."""
    standalone = {**STANDALONE, "window": 40, "norm_epsilon": 1e-6, "mask_token": True}
    source = reader(decoder, encoder_layers=[], encoder=standalone)
    stack = {f"model.{name}": torch.randn_like(weight) for name, weight in source.encoder.state_dict().items()}
    head = {"head.dense.weight": torch.ones(16, 16), "lm_head.bias": torch.ones(3)}
    save_file({**stack, **head}, tmp_path / "model.safetensors")
    values = source.config.encoder_config.to_dict() | {"architectures": ["LlamaForMLM"], "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(values))
    loop = LOOP.model_copy(update={"precision": precision})
    changes: dict[str, object] = {"encoder_layers": [], "encoder": standalone, "init": "released"}
    model = reader(decoder, loop, init_from=str(tmp_path), **changes)
    fresh = reader(decoder, loop, **changes).state_dict()
    for name, weight in trained(model).items():
        expected = stack[name.replace("encoder.", "model.", 1)] if name.startswith("encoder.") else fresh[name]
        assert torch.equal(weight, expected), name
    with pytest.raises(ConfigError, match="encoder is"):
        reader(decoder, init_from=str(tmp_path), **{**changes, "encoder": STANDALONE})
    del stack["model.norm.weight"]
    save_file(stack, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"has no model\.norm\.weight"):
        reader(decoder, init_from=str(tmp_path), **changes)
