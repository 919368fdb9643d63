"""Models in local folders: read in place, or converted once into the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx import models
from ragx.errors import ModelError
from ragx.models import local
from ragx.models.check import model_files


@pytest.fixture
def bert(tiny_bert: Path, home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "bert"))


def test_a_folder_with_safetensors_is_read_in_place(bert: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.resolve(str(bert), "embedder") == bert
    monkeypatch.chdir(bert.parent)
    assert models.resolve("bert", "embedder") == Path("bert")
    assert not home.exists()


def test_a_folder_with_pickled_weights_is_converted_once(
    pickled_bert: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models.resolve(str(pickled_bert), "embedder")
    assert folder.is_relative_to(home)
    assert not list(folder.glob("*.bin"))
    assert (pickled_bert / "pytorch_model.bin").is_file()
    assert "converting" in capsys.readouterr().err
    assert models.resolve(str(pickled_bert), "embedder") == folder
    assert capsys.readouterr().err == ""


def test_changed_weights_are_converted_again(pickled_bert: Path, home: Path) -> None:
    import torch

    before = models.fingerprint(models.resolve(str(pickled_bert)))
    weights = torch.load(pickled_bert / "pytorch_model.bin", weights_only=True)
    weights["embeddings.word_embeddings.weight"] += 1
    torch.save(weights, pickled_bert / "pytorch_model.bin")
    assert models.fingerprint(models.resolve(str(pickled_bert))) != before


def test_a_reference_checkpoint_is_a_reader(shared: Path) -> None:
    folder = str(shared / "reference" / "cepe-tiny-gqa")
    assert models.resolve(folder, "reader") == Path(folder)
    with pytest.raises(ModelError, match="is a trained reader"):
        models.resolve(folder, "decoder")


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}, None, "not a decoder"),
        ({"architectures": ["BertModel"], "model_type": "bert"}, "decoder", "is an embedder"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "embedder", "is a decoder"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "reader", "is a decoder"),
        ({"architectures": ["OwnForCausalLM"], "model_type": "own"}, "decoder", "the architecture own"),
        ({"architectures": ["LlamaForCausalContextLM"], "model_type": "llama"}, "decoder", "is a trained reader"),
        ({"architectures": "Llama", "model_type": ["x"]}, None, "not a decoder"),
    ],
)
def test_a_model_of_a_wrong_kind_is_refused(bert: Path, config: object, kind: str, message: str) -> None:
    (bert / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message) as error:
        models.resolve(str(bert), kind)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", [b"", b"[]", b"{", b"\xff\xfe", b"null"])
def test_settings_that_are_not_a_json_object_are_refused(bert: Path, config: bytes) -> None:
    (bert / "config.json").write_bytes(config)
    with pytest.raises(ModelError, match=r"config\.json") as error:
        models.resolve(str(bert))
    assert "\n" not in str(error.value)


def test_a_folder_without_a_config_is_refused(bert: Path) -> None:
    (bert / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        models.resolve(str(bert))


def test_a_folder_without_weights_is_refused(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        models.resolve(str(bert))


def test_truncated_weights_are_named(bert: Path) -> None:
    weights = bert / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        models.resolve(str(bert))


def test_a_missing_shard_is_named(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        models.resolve(str(bert))


def test_code_in_a_local_folder_is_refused(bert: Path) -> None:
    (bert / "processor_config.json").write_text(json.dumps({"auto_map": {"AutoProcessor": "own.Processor"}}))
    (bert / "own.py").write_text("raise SystemExit('owned')")
    with pytest.raises(ModelError, match=r"processor_config\.json: auto_map"):
        models.resolve(str(bert), "embedder")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-name", "unknown model 'no-such-name': use a folder, "),
        ("smolm2-135m", "unknown model 'smolm2-135m'; did you mean smollm2-135m-instruct?"),
        ("./missing", "./missing does not exist"),
        ("/missing/too", "/missing/too does not exist"),
        ("a/b/c", "unknown model 'a/b/c'"),
        ("../up", "../up does not exist"),
        ("", "no config.json"),
        ("~no-such-user/model", "cannot access ~no-such-user/model"),
        ("x" * 300, "cannot access xxx"),
        ("null\0byte", "unknown model"),
        (__file__, "neither a model folder"),
    ],
)
def test_an_unknown_name_is_reported(home: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError) as error:
        models.resolve(name)
    assert message in str(error.value)


def test_a_missing_model_that_may_not_be_downloaded_is_reported(home: Path) -> None:
    with pytest.raises(ModelError, match="ragx models pull contriever"):
        models.resolve("contriever", "embedder", allow_download=False)


def test_the_fingerprint_covers_all_files_of_the_model_and_no_others(bert: Path, tmp_path: Path) -> None:
    before = models.fingerprint(bert)
    (bert / "README.md").write_text("other words")
    copy = shutil.copytree(bert, tmp_path / "copy")
    assert models.fingerprint(bert) == models.fingerprint(copy) == before
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        data = (bert / file).read_bytes()
        (bert / file).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert models.fingerprint(bert) != before, file
        (bert / file).write_bytes(data)
    assert models.fingerprint(bert) == before


def test_a_folder_without_a_model_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        models.fingerprint(tmp_path)


FILE_NAMES = st.sampled_from(
    ["config.json", "model.safetensors", "pytorch_model.bin", "training_args.bin", "modeling.py", "optimizer.pt"]
)
PATHS = st.tuples(st.sampled_from(["", "1_Pooling/", "onnx/", "../", "1_Pooling/.git/"]), FILE_NAMES).map("".join)


@given(st.lists(PATHS, unique=True))
def test_a_model_consists_of_settings_and_one_form_of_weights(paths: list[str]) -> None:
    chosen = set(model_files(paths))
    assert chosen <= set(paths)
    for folder in ("", "1_Pooling/"):
        for file, is_part in {
            "config.json": True,
            "model.safetensors": True,
            "pytorch_model.bin": f"{folder}model.safetensors" not in paths,
        }.items():
            assert (folder + file in chosen) == (is_part and folder + file in paths)
    assert not any(path.startswith(("onnx", "..")) or ".git" in path for path in chosen)
    assert not any(path.endswith((".py", ".pt", "args.bin")) for path in chosen)


def test_a_bundled_reader_is_found_by_name_with_its_decoder(
    tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from ragx import cepe
    from ragx.cepe.added_weights import save_reader
    from ragx.cepe.fresh import fresh
    from ragx.cepe.placement import Placement

    monkeypatch.setattr(local, "BUNDLED", tmp_path)
    reader = fresh(tiny_decoder, Placement(torch.float32, "cpu"), output_gain=0.5)
    save_reader(reader, tmp_path / "small-reader", decoder=str(tiny_decoder))
    assert models.resolve("small-reader") == tmp_path / "small-reader"
    assert cepe.load("small-reader").is_trained
    info = {info.name: info for info in models.list_models()}["small-reader"]
    assert (info.kind, info.sources, info.cached) == ("reader", ["ragx"], True)
    with pytest.raises(ModelError, match="is a trained reader"):
        models.resolve("small-reader", "decoder")
    config = tmp_path / "small-reader" / "config.json"
    config.write_text(config.read_text().replace(str(tiny_decoder), "no-such-decoder"))
    with pytest.raises(ModelError, match="unknown model 'no-such-decoder'"):
        models.resolve("small-reader")
