"""A model is data: settings that would run code or leave its folder are refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx import cepe, models
from ragx.errors import ModelError
from ragx.models import cache, registry
from ragx.util.tokenization import load_tokenizer


@pytest.fixture
def bert(tiny_bert: Path, home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "bert"))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        models.resolve(str(folder), "embedder")
    assert "\n" not in str(error.value)
    return str(error.value)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "values",
    [
        {"attn_implementation": "someone/attention"},
        {"_attn_implementation": "someone/attention@main"},
        {"text_config": {"attn_implementation": {"": "someone/attention"}}},
        {"experts_implementation": "someone/experts"},
    ],
)
def test_compiled_code_from_the_hub_is_refused(bert: Path, values: dict[str, object]) -> None:
    edit(bert / "config.json", **values)
    assert "needs its own code (config.json: " in refusal(bert)


def test_built_in_attention_is_accepted(bert: Path) -> None:
    edit(bert / "config.json", attn_implementation="sdpa")
    assert models.resolve(str(bert), "embedder") == bert


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_models_own_code_is_refused(bert: Path, file: str) -> None:
    (bert / file).write_text(json.dumps({"model_type": "bert", "auto_map": {"AutoModel": "own.Model"}}))
    assert f"({file}: auto_map)" in refusal(bert)


def test_the_code_of_a_known_decoder_is_ignored(
    tiny_decoder: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the published YaRN checkpoints; their weights must fit the plain decoder."""
    folder = Path(shutil.copytree(tiny_decoder, tmp_path / "own"))
    code = {"AutoModelForCausalLM": "modeling_own.Own", "AutoConfig": "modeling_own.OwnConfig"}
    edit(folder / "config.json", auto_map=code)
    ran = tmp_path / "ran"
    (folder / "modeling_own.py").write_text(f"open({str(ran)!r}, 'w')")
    model = cepe.load(str(folder), dtype="float32", device="cpu")
    assert load_tokenizer(folder).plain_ids(["snow"])
    assert not ran.exists()
    assert not hasattr(model.config, "auto_map")
    models.resolve(str(folder), "decoder")
    assert capsys.readouterr().err.count("its own code (config.json: auto_map) is ignored") == 1
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Tokenizer", None]})
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: auto_map"):
        models.resolve(str(folder), "decoder")


def test_an_adapter_is_refused(bert: Path) -> None:
    (bert / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/other"}')
    assert "is an adapter" in refusal(bert)


@pytest.mark.parametrize("path", ["../outside", "/tmp", "1_Pooling/../../outside"])  # noqa: S108
def test_a_module_outside_the_folder_is_refused(bert: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").mkdir()
    (bert / "1_Pooling").mkdir(exist_ok=True)
    modules = [{"path": path, "type": "sentence_transformers.models.Pooling"}]
    (bert / "modules.json").write_text(json.dumps(modules))
    assert "outside the model folder" in refusal(bert)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json", "vocab.txt"])
def test_a_link_out_of_the_folder_is_refused(bert: Path, tmp_path: Path, file: str) -> None:
    target = tmp_path / "elsewhere"
    if (bert / file).exists():
        (bert / file).rename(target)
    else:
        target.write_text("a secret")
    (bert / file).symlink_to(target)
    assert f"{file} is a link out" in refusal(bert)


def test_a_link_to_a_module_folder_is_refused(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (bert / "9_Dense").symlink_to(tmp_path / "outside")
    assert "9_Dense is a link out" in refusal(bert)


def test_links_within_the_folder_and_the_hubs_cache_are_followed(bert: Path, tmp_path: Path) -> None:
    (bert / "tokenizer.json").rename(bert / "real.json")
    (bert / "tokenizer.json").symlink_to("real.json")
    assert models.resolve(str(bert), "embedder") == bert
    repository = tmp_path / "models--tiny--bert"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "blobs").mkdir()
    snapshot = Path(shutil.move(bert, repository / "snapshots" / "0123"))
    (snapshot / "model.safetensors").rename(repository / "blobs" / "abc")
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    assert models.resolve(str(snapshot), "embedder") == snapshot


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["architectures", "model_type", "decoder", "encoder_config", "auto_map", "attn_implementation"]


@settings(deadline=None, max_examples=60)
@given(config=st.dictionaries(st.sampled_from(KEYS), JSON) | JSON, modules=JSON)
def test_any_settings_give_a_kind_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, config: object, modules: object
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps(modules))
    try:
        result: str = models.check.settings(folder, "any", None)
    except ModelError as error:
        result = str(error)
    assert result in ("decoder", "embedder", "reader") or result.startswith("any")


RECORD = cache.Record(name="a/b", kind="embedder", source="hub", files={"f": cache.FileRecord(size=1, sha256="0")})


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.binary(max_size=40),
        JSON.map(lambda value: json.dumps(value).encode()),
        st.tuples(st.integers(0, 100), st.integers(0, 9), st.binary(max_size=3)).map(
            lambda cut: (whole := RECORD.model_dump_json().encode())[: cut[0]] + cut[2] + whole[cut[0] + cut[1] :]
        ),
    )
)
def test_any_cache_record_is_valid_or_damaged(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-record"
    folder.mkdir(exist_ok=True)
    (folder / cache.RECORD).write_bytes(data)
    assert cache.damage(folder, deep=True)  # its files are missing
    assert cache.read_record(folder) is None or isinstance(cache.read_record(folder), cache.Record)


REGISTRY = (Path(registry.__file__).with_name("registry.toml")).read_bytes()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(REGISTRY)), st.integers(0, 20), st.binary(max_size=4))
def test_any_registry_is_valid_or_damaged(
    tmp_path_factory: pytest.TempPathFactory, at: int, removed: int, added: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-registry.toml"
    path.write_bytes(REGISTRY[:at] + added + REGISTRY[at + removed :])
    try:
        assert isinstance(registry.parse(path), tuple)
    except ModelError as error:
        assert "is damaged" in str(error)  # noqa: PT017
