"""The embedder: what its embeddings are, saved and loaded, and around a derivative of its decoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ragx import extensible
from ragx.cepe.added_weights import quantize_reader
from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError, ModelError
from ragx.extensible.embedder import EmbedderSettings, choose_ratio, embed, places
from ragx.util.settings import checked
from tests.helpers.tiny import save_decoder
from tests.helpers.tiny_embedders import save_tiny_embedder, with_embedder

IDS = [int(token) for token in torch.randint(3, 200, (40,), generator=torch.Generator().manual_seed(0))]
CHUNKS = [IDS[:8], IDS[8:16], IDS[16:21]]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    save_decoder(folder)
    return folder


@pytest.fixture(scope="module")
def folder(decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_embedder(tmp_path_factory.mktemp("embedder"), decoder)


def load(folder: Path, **options: Any) -> CepeModel:
    return extensible.load(str(folder), dtype="float32", device="cpu", **options)


def logits(model: CepeModel, chunks: list[list[int]], ids: list[int], ratio: int) -> torch.Tensor:
    """After each of `ids`, (N, V), read after the embeddings of `chunks`."""
    with torch.no_grad():
        inputs = torch.cat([*embed(model, chunks, ratio), model.model.embed_tokens(torch.tensor(ids))])
        return model(inputs_embeds=inputs[None]).logits[0, -len(ids) :]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("length", "ratio", "expected"),
    [(8, 4, [3, 7]), (8, 1, [*range(8)]), (9, 4, [3, 7, 8]), (3, 4, [2]), (7, 2, [1, 3, 5, 6])],
)
def test_every_kth_state_is_an_embedding_and_so_is_the_last(length: int, ratio: int, expected: list[int]) -> None:
    assert places(length, ratio) == expected


def test_without_layers_each_token_is_its_own_embedding(decoder: Path) -> None:
    model = with_embedder(decoder, layers=0, ratios=(1,), norm="scale")
    with torch.no_grad():
        plain = model(torch.tensor([IDS])).logits[0, 21:]
    assert torch.equal(logits(model, CHUNKS, IDS[21:], 1), plain)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("norm", ["rms", "scale"])
def test_embeddings_are_states_of_the_first_layers_as_large_as_token_embeddings(
    family: str, norm: str, tmp_path: Path
) -> None:
    decoder = save_decoder(tmp_path, family)
    model = with_embedder(tmp_path, layers=2, norm=norm)
    sample = torch.tensor([[*range(10, 18)]])
    with torch.no_grad():
        states = decoder.model(sample, output_hidden_states=True).hidden_states[2][0]
        tokens = decoder.model.embed_tokens(sample[0])
        (embeddings,) = embed(model, sample.tolist(), 1)
    direction = states / states.square().mean(dim=1, keepdim=True).sqrt() if norm == "rms" else states
    factor = (embeddings * direction).sum() / direction.square().sum()
    torch.testing.assert_close(embeddings, factor * direction, rtol=1e-4, atol=1e-4)
    large = [float(each.square().mean().sqrt()) for each in (embeddings, tokens)]
    assert large[0] == pytest.approx(large[1], rel=0.3)  # equal over all of the sample


def test_chunks_are_embedded_alone_and_padding_changes_nothing(folder: Path) -> None:
    model = load(folder)
    with torch.no_grad():
        together = embed(model, CHUNKS * 7, 2)
        for number, chunk in enumerate(CHUNKS):
            torch.testing.assert_close(together[number], embed(model, [chunk], 2)[0])
            assert len(together[number]) == -(-len(chunk) // 2)


def test_a_saved_embedder_is_loaded_around_its_decoder(folder: Path, decoder: Path) -> None:
    model, fresh = load(folder), with_embedder(decoder)
    assert model.extensible is not None
    assert fresh.extensible is not None
    assert model.extensible.settings == fresh.extensible.settings
    weights = {name.removeprefix("extensible."): each for name, each in load_file(folder / "model.safetensors").items()}
    assert weights.keys() == fresh.extensible.state_dict().keys()
    for name, weight in model.extensible.state_dict().items():
        assert torch.equal(weight, weights[name])
    assert not torch.equal(logits(model, CHUNKS, IDS[21:], 4), logits(fresh, CHUNKS, IDS[21:], 4))
    ids = torch.tensor([IDS])
    assert torch.equal(model(ids).logits, fresh(ids).logits), "the decoder's own logits do not change"


def test_it_plugs_into_a_derivative_of_its_decoder(folder: Path, decoder: Path, tmp_path: Path, capsys: Any) -> None:
    tuned = Path(shutil.copytree(decoder, tmp_path / "tuned"))
    weights = load_file(tuned / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= 2
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    own, model = load(folder), load(folder, decoder=str(tuned))
    assert "is not the decoder that the reader was trained with" in capsys.readouterr().err
    for one, other in zip(embed(own, CHUNKS, 4), embed(model, CHUNKS, 4), strict=True):
        assert torch.equal(one, other)
    plain = with_embedder(tuned)
    with torch.no_grad():
        inputs = torch.cat([*embed(own, CHUNKS, 4), plain.model.embed_tokens(torch.tensor(IDS[21:]))])
        expected = plain(inputs_embeds=inputs[None]).logits[0, -len(IDS[21:]) :]
    assert torch.equal(logits(model, CHUNKS, IDS[21:], 4), expected)


def test_a_decoder_of_another_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    save_decoder(tmp_path, vocab_size=300)
    with pytest.raises(ModelError, match="its vocab_size is 300, not 200"):
        load(folder, decoder=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"chunk": 9}, "ratios must divide"), ({"layers": 2}, "weights do not fit"), (None, "no 'extensible'|damaged")],
)
def test_a_damaged_folder_is_refused(folder: Path, change: dict[str, Any] | None, message: str, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    values = json.loads((folder / "config.json").read_text())
    values["extensible"] = None if change is None else values["extensible"] | change
    save_file(tensors, tmp_path / "model.safetensors", metadata={"config": json.dumps(values)})
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=message):
        load(tmp_path)


def test_it_is_not_quantized(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no CEPE reader"):
        quantize_reader(folder, tmp_path / "int8")


def test_ratios_divide_a_chunk(folder: Path, decoder: Path) -> None:
    with pytest.raises(ConfigError, match="ratios must divide the 8 tokens of a chunk, got 3"):
        checked(EmbedderSettings, {"chunk": 8, "ratios": [2, 3]})
    model = load(folder)
    assert [choose_ratio(model, ratio) for ratio in (None, 8)] == [2, 8]
    with pytest.raises(ConfigError, match="ratio must divide the 8 tokens of the embedder's chunks, got 16"):
        choose_ratio(model, 16)
