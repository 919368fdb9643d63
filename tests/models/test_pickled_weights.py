"""Weights that are published pickled: converted to safetensors once, and never unpickled as Python objects."""

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


def test_pickled_weights_become_safetensors_and_encode_alike(
    hub: Hub, run: Run, tiny_bert: Path, pickled_bert: Path
) -> None:
    hub.serve("tiny/pickled", pickled_bert)
    result = run("pull", "tiny/pickled")
    assert result.error is None
    folder = Path(result.value)
    assert not list(folder.rglob("*.bin"))
    assert result.notices == ["converting pytorch_model.bin of tiny/pickled to safetensors (once)"]

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
    for shard, its in shards.items():
        torch.save({key: weights[key] for key in its}, pickled_bert / shard)
    index = {"metadata": {}, "weight_map": {key: shard for shard, its in shards.items() for key in its}}
    (pickled_bert / "pytorch_model.bin.index.json").write_text(json.dumps(index))

    folder = models.resolve(str(pickled_bert))
    loaded = AutoModel.from_pretrained(folder, use_safetensors=True).state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in keys)


def test_a_shard_that_the_index_names_must_be_there(home: Path, pickled_bert: Path) -> None:
    index = {"weight_map": {"a": "pytorch_model.bin", "b": "pytorch_model-00002-of-00002.bin"}}
    (pickled_bert / "pytorch_model.bin").rename(pickled_bert / "pytorch_model-00001-of-00002.bin")
    (pickled_bert / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        models.resolve(str(pickled_bert))


def test_tensors_that_share_memory_are_kept_under_every_name(home: Path, pickled_bert: Path) -> None:
    import torch
    from safetensors.torch import load_file

    tensor = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": tensor, "b": tensor, "c": tensor.T, "d": tensor[1]}
    torch.save(tensors, pickled_bert / "pytorch_model.bin")
    converted = load_file(models.resolve(str(pickled_bert)) / "model.safetensors")
    assert converted.keys() == tensors.keys()
    assert all(torch.equal(converted[key], tensors[key]) for key in tensors)


class Attack:
    """Unpickling it runs `open(path, "w")`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


REFUSED = "pytorch_model.bin is not plain weights, and ragx unpickles nothing else"


def test_a_malicious_pickle_is_refused_and_not_run(
    hub: Hub, run: Run, stored: Stored, pickled_bert: Path, tmp_path: Path
) -> None:
    import torch

    torch.save({"weight": Attack(tmp_path / "owned")}, pickled_bert / "pytorch_model.bin")
    hub.serve("tiny/attack", pickled_bert)
    assert run("pull", "tiny/attack").error == f"tiny/attack: {REFUSED}"
    assert not (tmp_path / "owned").exists()
    assert stored() == []


def test_a_bare_malicious_pickle_is_refused_and_not_run(
    home: Path, stored: Stored, pickled_bert: Path, tmp_path: Path
) -> None:
    (pickled_bert / "pytorch_model.bin").write_bytes(pickle.dumps(Attack(tmp_path / "owned")))
    with pytest.raises(ModelError, match=REFUSED):
        models.resolve(str(pickled_bert))
    assert not (tmp_path / "owned").exists()
    assert stored() == []


@pytest.mark.parametrize("content", [{"model": {"weight": 1}}, [1.0], {"epoch": 3}])
def test_values_that_are_not_named_tensors_are_refused(home: Path, pickled_bert: Path, content: object) -> None:
    import torch

    torch.save(content, pickled_bert / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin holds more than named tensors"):
        models.resolve(str(pickled_bert))


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_cut_weights_are_one_clear_line(home: Path, stored: Stored, pickled_bert: Path, keep: int) -> None:
    weights = pickled_bert / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"pytorch_model\.bin") as error:
        models.resolve(str(pickled_bert))
    assert "\n" not in str(error.value)
    assert stored() == []
