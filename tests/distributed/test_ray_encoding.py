"""A Ray cluster stores the same encodings as this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ragx.cepe.added_weights import save_reader
from ragx.cepe.fresh import fresh
from ragx.cepe.placement import Placement
from ragx.cepe.store import Passages, Rows
from ragx.config import EncodingOptions, IndexSettings
from ragx.errors import ModelError
from ragx.index import Index
from ragx.indexing.build import build
from ragx.indexing.encode import cluster_encoding, encode_index
from ragx.models.local import bundled
from ragx.reader.cepe import CepeReader
from ragx.reader.loading import open_reader
from ragx.util.folders import cache_home
from tests.helpers.command import RunCommand
from tests.helpers.slow_embedders import slow_reader
from tests.helpers.tiny import save_tiny_reader

distributed = pytest.importorskip("ragx.distributed")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

NOTES = 12


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    notes, folder = (tmp_path_factory.mktemp(name) for name in ("notes", "index"))
    for number in range(NOTES):
        (notes / f"{number}.txt").write_text(f"How much light snow {number} reflects was measured.\n", encoding="utf-8")
    build([str(notes)], folder, IndexSettings())
    return folder


@pytest.fixture(scope="module")
def trained(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader whose cross-attention has an effect."""
    return save_tiny_reader(tmp_path_factory.mktemp("reader"), tiny_decoder)


@pytest.fixture
def open_in_folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], CepeReader]:
    """Open the reader with its encodings in the folder of that name."""
    models = cache_home() / "models"

    def open_in(name: str) -> CepeReader:
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            (folder / "models").symlink_to(models)
        monkeypatch.setenv("RAGX_HOME", str(folder))
        return open_reader(EncodingOptions(model=str(trained), device="cpu", dtype="float32"))

    return open_in


def rows(reader: CepeReader, index: Path) -> list[NDArray[np.float32]]:
    """The stored encodings of all passages."""
    assert reader.store
    stored = reader.store.get(reader.encoder_ids(list(Index.open(index).live_passages())))
    return [each.to_float32() for each in stored if each is not None]


def test_the_cluster_stores_the_same_encodings(
    index: Path, trained: Path, open_in_folder: Callable[[str], CepeReader], run_command: RunCommand
) -> None:
    local = open_in_folder("local")
    assert encode_index(index, local).encoded == NOTES
    open_in_folder("ray")
    command = ("index", "encode", "--index", index, "--model", trained, "--dtype", "float32", "--engine", "ray")
    code, out, err = run_command(*command)
    assert (code, out) == (0, "")
    assert f"{NOTES} passages encoded, 0 already on disk" in err
    remote_rows, local_rows = rows(open_in_folder("ray"), index), rows(local, index)
    assert len(remote_rows) == len(local_rows) == NOTES
    for remote_row, local_row in zip(remote_rows, local_rows, strict=True):
        np.testing.assert_allclose(remote_row, local_row, rtol=1.6e-2, atol=1e-5)  # a bfloat16's last bits
    assert f"0 passages encoded, {NOTES} already on disk" in run_command(*command)[2]


def test_a_build_on_the_cluster_can_encode_too(
    trained: Path,
    open_in_folder: Callable[[str], CepeReader],
    tmp_path: Path,
    run_command: RunCommand,
) -> None:
    (tmp_path / "snow.txt").write_text("Fresh snow reflects light.\n", encoding="utf-8")
    open_in_folder("built")
    out = tmp_path / "index"
    options = ("--encode", "--model", trained, "--engine", "ray")
    code, _, err = run_command("index", "build", tmp_path / "snow.txt", "--index", out, *options)
    assert code == 0
    assert "1 passage encoded" in err


def test_workers_load_a_bundled_reader_by_name_and_others_by_path(
    open_in_folder: Callable[[str], CepeReader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_in_folder("named")
    name = next(iter(bundled()))
    monkeypatch.chdir(tmp_path)
    for model, argument in (("small", str(tmp_path / "small")), (name, name)):
        (tmp_path / model).mkdir()
        (source, *_) = cluster_encoding(model, reader, device="cpu", bits=None).args  # type: ignore[attr-defined]
        assert source.arguments[0] == argument


def test_a_killed_worker_loses_nothing(
    index: Path,
    trained: Path,
    open_in_folder: Callable[[str], CepeReader],
    tmp_path: Path,
    kill_worker: Callable[[int], None],
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()

    def kill() -> None:
        while not (paths := list(seen.iterdir())):
            time.sleep(0.02)
        kill_worker(int(paths[0].name.partition("-")[0]))

    reader = open_in_folder("killed")
    killer = threading.Thread(target=kill)
    killer.start()
    source = distributed.ModelSource(slow_reader, (str(trained), str(seen), 0.3))

    def encode(batches: Iterable[Passages]) -> Iterable[tuple[Passages, Rows]]:
        by_threes = (batch[start : start + 3] for batch in batches for start in range(0, len(batch), 3))
        return distributed.encode_batches(source, reader.model.encoder_fingerprint(), "bfloat16", by_threes)

    result = encode_index(index, reader, encode)
    killer.join()
    assert (result.encoded, result.present, result.complete) == (NOTES, 0, True)
    assert len(list(seen.iterdir())) > NOTES / 3  # one batch of three was encoded twice
    assert len(rows(reader, index)) == NOTES


def test_workers_with_another_reader_are_refused(
    index: Path, tiny_decoder: Path, open_in_folder: Callable[[str], CepeReader], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    model = fresh(tiny_decoder, Placement(torch.float32, "cpu"), output_gain=0.5)
    torch.nn.init.ones_(next(model.encoder.layers.parameters()))
    save_reader(model, other, decoder=str(tiny_decoder))
    reader = open_in_folder("refused")
    source = distributed.ModelSource(slow_reader, (str(other), str(tmp_path), 0.0))
    encode = partial(distributed.encode_batches, source, reader.model.encoder_fingerprint(), "bfloat16")
    with pytest.raises(ModelError, match=r"the reader on node .* differs from this"):
        encode_index(index, reader, encode)
