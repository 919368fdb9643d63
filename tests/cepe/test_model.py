"""How cross-attention affects the decoder around which it is inserted."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, PreTrainedModel

from ragx.cepe.context import Context
from ragx.cepe.model import ENCODER_BATCH_TOKENS, CepeModel
from tests.helpers.fresh_readers import FAMILIES, load, tokens, train
from tests.helpers.tiny import save_decoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    save_decoder(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> CepeModel:
    """A reader whose cross-attention has an effect."""
    reader = load(folder)
    train(reader)
    return reader


@pytest.mark.parametrize(("family", "changes"), FAMILIES.items(), ids=FAMILIES)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_fresh_reader_has_its_decoders_logits(
    tmp_path: Path, family: str, changes: dict[str, object], tied: bool
) -> None:
    decoder: PreTrainedModel = save_decoder(tmp_path, family, tie_word_embeddings=tied, **changes)
    reader = load(tmp_path)
    with torch.no_grad():
        expected = decoder(tokens(2, 9)).logits
        torch.testing.assert_close(reader(tokens(2, 9)).logits, expected, rtol=1e-5, atol=1e-5)
        with_passages = reader(tokens(2, 9), encoder_input_ids=tokens(2, 3, 5)).logits
        torch.testing.assert_close(with_passages, expected, rtol=1e-5, atol=1e-5)
    assert not reader.is_trained


@pytest.mark.parametrize("grad", [True, False])
def test_passages_padded_as_on_a_gpu_have_the_same_encodings_and_gradients(model: CepeModel, grad: bool) -> None:
    lengths = [5, 8, 13, 0, 16, 8, 1]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    results = []
    for multiple in (1, 8):
        embeddings = torch.randn(1, sum(lengths), 32, generator=torch.Generator().manual_seed(0)).requires_grad_(grad)
        with torch.set_grad_enabled(grad):
            encoded = model.encoder(embeddings, positions, lengths, multiple)
            results.append(
                (encoded, *torch.autograd.grad(encoded.square().sum(), [embeddings] if grad else []))
                if grad
                else (encoded,)
            )
    for padded, exact in zip(*results[::-1], strict=True):
        torch.testing.assert_close(padded, exact, rtol=1e-4, atol=1e-5)


def test_decoder_keys_keep_their_names(folder: Path) -> None:
    decoder, reader = save_decoder(folder), load(folder)
    added = set(reader.state_dict()) - set(decoder.state_dict())
    assert set(decoder.state_dict()) <= set(reader.state_dict())
    assert {key.split(".")[0] for key in added} == {"encoder", "model"}
    assert all(key.startswith("encoder.") or ".cross_attn." in key for key in added)


def test_a_trained_reader_attends_to_its_passages(model: CepeModel) -> None:
    with torch.no_grad():
        without = model(tokens(1, 6)).logits
        with_passages = model(tokens(1, 6), encoder_input_ids=tokens(1, 2, 7)).logits
    assert model.is_trained
    assert (with_passages - without).abs().max() > 0.01


@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_packing_equals_padding(model: CepeModel, lengths: list[int], seed: int) -> None:
    ids = tokens(1, len(lengths), 9, seed=seed)
    mask = torch.arange(9)[None, None] < torch.tensor(lengths)[None, :, None]
    with torch.no_grad():
        packed = model.encode_passages([ids[0, i, :n].tolist() for i, n in enumerate(lengths)])
        padded = model.encode(ids, mask)
        each = [model.encode(ids[:, i : i + 1, :n]).phi for i, n in enumerate(lengths) if n]
    alone = torch.cat(each, dim=1) if each else padded.phi[:, :0]
    torch.testing.assert_close(packed.phi, padded.phi, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed.phi, alone, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(4)))
def test_the_order_of_passages_changes_nothing(model: CepeModel, order: list[int]) -> None:
    passages = tokens(1, 4, 6)
    with torch.no_grad():
        expected = model(tokens(1, 5), encoder_input_ids=passages).logits
        shuffled = model(tokens(1, 5), encoder_input_ids=passages[:, order]).logits
    torch.testing.assert_close(shuffled, expected, rtol=1e-4, atol=1e-4)


def test_a_batch_equals_its_questions_one_by_one(model: CepeModel) -> None:
    ids, passages = tokens(3, 5), tokens(3, 4, 6)
    mask = torch.ones_like(passages)
    mask[1, 2:] = 0  # fewer passages
    mask[2] = 0  # none at all
    with torch.no_grad():
        batch = model(ids, encoder_input_ids=passages, encoder_attention_mask=mask).logits
        second = model(ids[1:2], encoder_input_ids=passages[1:2, :2]).logits
        third = model(ids[2:3]).logits
    torch.testing.assert_close(batch[1:2], second, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(batch[2:3], third, rtol=1e-4, atol=1e-4)


def test_many_passages_are_encoded_in_batches(model: CepeModel) -> None:
    passages = [list(range(3, 3 + length)) for length in (4, 9, 1, 30, 7, 7)]
    repeat = ENCODER_BATCH_TOKENS // sum(map(len, passages)) + 1
    with torch.no_grad():
        few, many = model.encode_passages(passages), model.encode_passages(passages * repeat)
    torch.testing.assert_close(many.phi, few.phi.repeat(1, repeat, 1), rtol=1e-5, atol=1e-5)
    assert len(many.offsets[0]) == len(passages) * repeat + 1


def test_no_passages_equal_no_context(model: CepeModel) -> None:
    with torch.no_grad():
        empty = model(tokens(1, 5), context=model.encode_passages([])).logits
        torch.testing.assert_close(empty, model(tokens(1, 5)).logits, rtol=1e-5, atol=1e-5)


def test_cached_decoding_equals_one_pass(model: CepeModel) -> None:
    ids, context = tokens(1, 8), model.encode(tokens(1, 3, 6))
    with torch.no_grad():
        expected = model(ids, context=context).logits
        first = model(ids[:, :5], context=context, use_cache=True)
        rest = model(ids[:, 5:], context=context, past_key_values=first.past_key_values).logits
    torch.testing.assert_close(torch.cat([first.logits, rest], dim=1), expected, rtol=1e-4, atol=1e-4)


def test_generate_takes_passages_or_a_context(model: CepeModel) -> None:
    passages = tokens(1, 3, 6)
    options = {"max_new_tokens": 8, "do_sample": False}
    from_ids = model.generate(tokens(1, 5), encoder_input_ids=passages, **options)
    with torch.no_grad():
        context = model.encode(passages)
    assert torch.equal(model.generate(tokens(1, 5), context=context, **options), from_ids)
    with pytest.raises(ValueError, match="not both"):
        model.generate(tokens(1, 5), encoder_input_ids=passages, context=context, **options)


def test_beams_attend_to_their_own_questions_passages(model: CepeModel) -> None:
    ids, passages = tokens(2, 5), tokens(2, 3, 6)
    options = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False}
    batch = model.generate(ids, encoder_input_ids=passages, **options)
    alone = [model.generate(ids[i : i + 1], encoder_input_ids=passages[i : i + 1], **options) for i in range(2)]
    for row, single in zip(batch, alone, strict=True):
        assert row[: single.shape[1]].tolist() == single[0].tolist()


def encoded(model: CepeModel, passages: torch.Tensor, strategy: str) -> Context:
    with torch.no_grad():
        context = model.encode(passages)
    context.strategy = strategy
    return context


@pytest.mark.parametrize("strategy", ["project", "latent"])
@pytest.mark.parametrize("prompt", [5, 40])
def test_all_attention_strategies_give_the_same_logits(model: CepeModel, strategy: str, prompt: int) -> None:
    ids, passages = tokens(1, prompt), tokens(1, 4, 9)
    with torch.no_grad():
        expected = model(ids, context=encoded(model, passages, "cached")).logits
        logits = model(ids, context=encoded(model, passages, strategy)).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_passages_can_be_added_and_dropped_between_tokens(model: CepeModel) -> None:
    ids, passages = tokens(1, 8), tokens(1, 4, 6)
    with torch.no_grad():
        three, fourth, four = (model.encode(passages[:, part]) for part in (slice(3), slice(3, 4), slice(4)))
        first = model(ids[:, :5], context=three, use_cache=True)
        step = {"past_key_values": first.past_key_values, "use_cache": True}
        added = model(ids[:, 5:7], context=three.add(fourth), **step).logits
        step["past_key_values"].crop(-2)
        expected = model(ids[:, 5:7], context=four, **step).logits
        step["past_key_values"].crop(-2)
        dropped = model(ids[:, 5:7], context=four.drop(1), **step).logits
        step["past_key_values"].crop(-2)
        without = model(ids[:, 5:7], context=model.encode(passages[:, [0, 2, 3]]), **step).logits
    torch.testing.assert_close(added, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dropped, without, rtol=1e-4, atol=1e-5)
    assert four.drop(1).offsets == [[0, 6, 12, 18]]
    with pytest.raises(IndexError, match="no passage 4"):
        four.drop(4)


def test_scores_are_sharpened_only_if_asked_and_beyond_a_length(model: CepeModel) -> None:
    model.config.trained_context_tokens = 9
    try:
        for beyond, factor in ((None, 1), (100, 1), (36, 1), (9, (1 + math.log(4) / 10) ** 2)):
            model.sharpen_beyond = beyond
            assert model.encode(tokens(1, 4, 9)).scale(16) == pytest.approx(0.25 * factor)
    finally:
        model.sharpen_beyond, model.config.trained_context_tokens = None, None


def test_the_gain_scales_each_rows_cross_attention(model: CepeModel) -> None:
    prompt, passages, gains = tokens(1, 6), tokens(1, 2, 5, seed=4), (0.0, 0.5, 1.0)
    contexts = [encoded(model, passages, "cached") for _ in gains]
    for context, gain in zip(contexts, gains, strict=True):
        context.gain = gain
    cross_attention = next(layer.cross_attn for layer in model.model.layers if layer.cross_attn is not None)
    hidden = torch.randn(3, 6, 32)
    with torch.no_grad():
        scaled, unscaled = cross_attention(hidden, contexts), cross_attention(hidden, contexts[2:] * 3)
        rows = model(prompt.expand(3, -1), context=contexts).logits
        without, full = model(prompt).logits, model(prompt, context=contexts[2]).logits
    torch.testing.assert_close(scaled, torch.tensor(gains)[:, None, None] * unscaled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rows[:1], without, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows[2:], full, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(rows[:1], full)


@pytest.mark.parametrize("piece", [3, 7, 12])
@pytest.mark.parametrize("attend_from", [0, 5, 11, 12, 40])
def test_only_tokens_from_the_question_on_attend(model: CepeModel, piece: int, attend_from: int) -> None:
    """Equals the whole prompt with the cross-attention of earlier tokens set to zero, read in pieces of any size."""
    prompt, context = tokens(1, 12), encoded(model, tokens(1, 3, 6, seed=4), "cached")

    def zero_before(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output * (torch.arange(output.shape[1]) >= attend_from)[:, None]

    hooks = [layer.cross_attn.register_forward_hook(zero_before) for layer in model.model.layers]
    with torch.no_grad():
        expected = model(prompt, context=context).logits
        for hook in hooks:
            hook.remove()
        context.attend_from = attend_from
        cache, logits = DynamicCache(), []
        for part in prompt.split(piece, dim=1):
            logits.append(model(part, context=context, past_key_values=cache, use_cache=True).logits)
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, rtol=1e-4, atol=1e-4)


def test_gradients_reach_encoder_and_cross_attention(folder: Path) -> None:
    reader = load(folder)
    reader(tokens(1, 5), encoder_input_ids=tokens(1, 2, 6), labels=tokens(1, 5)).loss.backward()
    # a zero output projection learns first; from the next step on, everything else learns through it
    assert reader.model.layers[0].cross_attn.o_proj.weight.grad.abs().max() > 0
    train(reader)
    reader.zero_grad()
    reader(tokens(1, 5), encoder_input_ids=tokens(1, 2, 6), labels=tokens(1, 5)).loss.backward()
    assert reader.model.layers[0].cross_attn.k_proj.weight.grad.abs().max() > 0
    assert reader.encoder.layers[0].mlp.up_proj.weight.grad.abs().max() > 0
