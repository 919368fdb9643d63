"""Pickled weights are converted to safetensors once, and never unpickled as Python objects."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragx import models
from ragx.errors import ModelError

if TYPE_CHECKING:
    from conftest import Hub, Outcome

    Run = Callable[..., Outcome]
    Stored = Callable[[], list[str]]

SENTENCES = ["what is albedo", "the snow reflects light .", "light"]


def test_converted_weights_give_the_same_vectors(hub: Hub, run: Run, tiny_bert: Path, pickled_bert: Path) -> None:
    hub.serve("tiny/pickled", pickled_bert)
    result = run("pull", "tiny/pickled")
    assert result.error is None
    folder = Path(result.value)
    assert not list(folder.rglob("*.bin"))
    (notice,) = result.notices
    assert "converting pytorch_model.bin" in notice

    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    batch = AutoTokenizer.from_pretrained(tiny_bert)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(tiny_bert)(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    encoded = SentenceTransformer(str(folder), device="cpu").encode(SENTENCES, convert_to_tensor=True)
    torch.testing.assert_close(encoded, mean)


def test_pickled_shards_and_their_index_are_converted(home: Path, pickled_bert: Path, tiny_bert: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel

    weights = load_file(tiny_bert / "model.safetensors")
    keys = sorted(weights)
    shards = {"pytorch_model-00001-of-00002.bin": keys[::2], "pytorch_model-00002-of-00002.bin": keys[1::2]}
    (pickled_bert / "pytorch_model.bin").unlink()
    for shard, its_keys in shards.items():
        torch.save({key: weights[key] for key in its_keys}, pickled_bert / shard)
    index = {"metadata": {}, "weight_map": {key: shard for shard, its_keys in shards.items() for key in its_keys}}
    (pickled_bert / "pytorch_model.bin.index.json").write_text(json.dumps(index))

    folder = models.resolve(str(pickled_bert))
    loaded = AutoModel.from_pretrained(folder, use_safetensors=True).state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in keys)


def test_a_missing_shard_is_named(home: Path, pickled_bert: Path) -> None:
    index = {"weight_map": {"a": "pytorch_model.bin", "b": "pytorch_model-00002-of-00002.bin"}}
    (pickled_bert / "pytorch_model.bin").rename(pickled_bert / "pytorch_model-00001-of-00002.bin")
    (pickled_bert / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        models.resolve(str(pickled_bert))


def test_tensors_that_share_memory_keep_all_names(home: Path, pickled_bert: Path) -> None:
    import torch
    from safetensors.torch import load_file

    tensor = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": tensor, "b": tensor, "c": tensor.T, "d": tensor[1]}
    torch.save(tensors, pickled_bert / "pytorch_model.bin")
    converted = load_file(models.resolve(str(pickled_bert)) / "model.safetensors")
    assert converted.keys() == tensors.keys()
    assert all(torch.equal(converted[key], tensors[key]) for key in tensors)


class Attack:
    """Calls `open(path, "w")` when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


REFUSAL = "does not unpickle"


def test_a_malicious_pickle_is_refused_and_not_run(
    hub: Hub, run: Run, stored: Stored, pickled_bert: Path, tmp_path: Path
) -> None:
    import torch

    torch.save({"weight": Attack(tmp_path / "owned")}, pickled_bert / "pytorch_model.bin")
    hub.serve("tiny/attack", pickled_bert)
    assert REFUSAL in run("pull", "tiny/attack").error
    assert not (tmp_path / "owned").exists()
    assert stored() == []


def test_a_malicious_pickle_without_an_archive_is_refused_and_not_run(
    home: Path, stored: Stored, pickled_bert: Path, tmp_path: Path
) -> None:
    (pickled_bert / "pytorch_model.bin").write_bytes(pickle.dumps(Attack(tmp_path / "owned")))
    with pytest.raises(ModelError, match=REFUSAL):
        models.resolve(str(pickled_bert))
    assert not (tmp_path / "owned").exists()
    assert stored() == []


@pytest.mark.parametrize("content", [{"model": {"weight": 1}}, [1.0], {"epoch": 3}])
def test_values_that_are_not_named_tensors_are_refused(home: Path, pickled_bert: Path, content: object) -> None:
    import torch

    torch.save(content, pickled_bert / "pytorch_model.bin")
    with pytest.raises(ModelError, match="more than named tensors"):
        models.resolve(str(pickled_bert))


@pytest.mark.parametrize("length", [0, 10, 1000])
def test_truncated_weights_are_refused(home: Path, stored: Stored, pickled_bert: Path, length: int) -> None:
    weights = pickled_bert / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:length])
    with pytest.raises(ModelError, match=r"pytorch_model\.bin") as error:
        models.resolve(str(pickled_bert))
    assert "\n" not in str(error.value)
    assert stored() == []
