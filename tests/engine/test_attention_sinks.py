"""StreamingLLM's cache: exact positions and tokens, whatever the pieces in which a prompt arrives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ragx import cepe
from ragx.engine.attention_sinks import AttentionSinks
from ragx.engine.torch_decoder import TorchDecoder
from ragx.errors import ConfigError
from tests.helpers.plain_llama import plain_logits
from tests.helpers.tiny import save_decoder

IDS = torch.randint(3, 200, (60,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("decoder")
    save_decoder(folder, num_hidden_layers=3)
    return cepe.load(str(folder), dtype="float32", device="cpu").double()


def logits(model: Any, sinks: AttentionSinks | None, ids: Sequence[int] = IDS, piece: int = 7) -> torch.Tensor:
    """Logits (N, V) after each token: half of them read in pieces, half decoded beside another answer."""
    decoder = TorchDecoder(model)
    sequence, other = (decoder.sequence(sinks, 0) for _ in range(2))
    half = len(ids) // 2
    read = [decoder.read(sequence, ids[at : min(half, at + piece)], keep=piece) for at in range(0, half, piece)]
    decoder.read(other, ids[:3], keep=1)
    batch = decoder.batch()
    batch.join(other)
    batch.join(sequence)
    steps = [torch.tensor(batch.step([ids[0], token])[1]) for token in ids[half:]]
    return torch.cat([*read, torch.stack(steps)])


def kept(sinks: AttentionSinks, length: int) -> list[int] | None:
    if length < sinks.sinks + sinks.recent + sinks.stride:
        return None
    return [*range(sinks.sinks), *range(length - sinks.recent, length)]


@pytest.mark.parametrize("sinks", [(4, 8, 12), (4, 8, 1), (0, 9, 5), (2, 1, 3), (1, 20, 40)])
def test_moved_keys_are_those_rotated_at_their_new_places(model: Any, sinks: tuple[int, int, int]) -> None:
    settings = AttentionSinks(*sinks)
    expected = plain_logits(model, IDS, lambda length: kept(settings, length))
    for piece in (1, 7, 30):
        torch.testing.assert_close(logits(model, settings, piece=piece).double(), expected, atol=1e-4, rtol=1e-4)


def test_a_cache_that_holds_the_text_is_the_full_one(model: Any) -> None:
    whole = model(torch.tensor([IDS])).logits[0]
    settings = AttentionSinks(4, 60, 100)
    torch.testing.assert_close(logits(model, settings).double(), whole.detach(), atol=1e-5, rtol=1e-5)


def test_without_sinks_at_stride_1_it_is_one_forward_pass_under_a_band_mask(model: Any) -> None:
    recent = 9
    places = torch.arange(len(IDS))
    distance = places[:, None] - places
    band = (distance >= 0) & (distance <= recent)
    expected = model(torch.tensor([IDS]), attention_mask=band[None, None]).logits[0].detach()
    torch.testing.assert_close(logits(model, AttentionSinks(0, recent, 1)).double(), expected, atol=1e-5, rtol=1e-5)


def test_the_cache_does_not_grow(model: Any) -> None:
    decoder = TorchDecoder(model)
    sequence = decoder.sequence(AttentionSinks(4, 8, 12), 0)
    sizes = []
    for token in IDS * 2:
        decoder.read(sequence, [token], keep=1)
        sizes.append(sequence.cache.get_seq_length())
    assert max(sizes) == 23
    assert set(sizes[23:]) == set(range(12, 24))


def test_rounding_errors_do_not_add_up(model: Any, tmp_path: Path) -> None:
    """At stride 1 a key moves with every token; in bfloat16 the error stays that of one rounding."""
    save_decoder(tmp_path, num_hidden_layers=1)
    small = cepe.load(str(tmp_path), dtype="bfloat16", device="cpu")
    decoder = TorchDecoder(small)
    sequence = decoder.sequence(AttentionSinks(4, 100, 1), 0)
    ids = (IDS * 4)[:200]
    decoder.read(sequence, ids, keep=1)
    exact = TorchDecoder(cepe.load(str(tmp_path), dtype="float32", device="cpu"))
    reference = exact.sequence(AttentionSinks(4, 100, 1), 0)
    exact.read(reference, ids, keep=1)
    keys, expected = sequence.cache.layers[0].keys.float(), reference.cache.layers[0].keys
    assert ((keys - expected).norm() / expected.norm()).item() < 2**-7


def test_a_cache_beyond_the_window_is_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match="add up to 257 tokens, more than the decoder's window of 256"):
        TorchDecoder(model).sequence(AttentionSinks(4, 128, 125), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}}, "not dynamic"),
        ({"family": "mistral", "sliding_window": 32}, "without a sliding window"),
    ],
)
def test_a_decoder_whose_keys_cannot_be_moved_is_refused(changes: Any, message: str, tmp_path: Path) -> None:
    save_decoder(tmp_path, **changes)
    decoder = TorchDecoder(cepe.load(str(tmp_path), dtype="float32", device="cpu"))
    with pytest.raises(ConfigError, match=message):
        decoder.sequence(AttentionSinks(4, 8, 12), 0)


def test_layers_without_positions_keep_their_keys(tmp_path: Path) -> None:
    save_decoder(tmp_path, "smollm3", no_rope_layers=[1, 0, 1])
    model = cepe.load(str(tmp_path), dtype="float32", device="cpu")
    decoder = TorchDecoder(model)
    sequence = decoder.sequence(AttentionSinks(2, 6, 4), 0)
    decoder.read(sequence, IDS[:11], keep=1)
    before = sequence.cache.layers[1].keys
    decoder.read(sequence, IDS[11:12], keep=1)
    torch.testing.assert_close(sequence.cache.layers[1].keys[:, :, :7], before[:, :, [0, 1, 6, 7, 8, 9, 10]])
