"""A reader around a derivative of its decoder: a warning where passages make that decoder worse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ragx.config import ModelOptions, SamplingParams
from ragx.reader.cepe import CepeReader
from ragx.reader.loading import open_reader, open_readers
from ragx.reader.plug_in import QUESTIONS, TEXTS, perplexity_ratio, plug_in_notes
from ragx.types import Passage
from tests.helpers.tiny import save_tiny_reader


@pytest.fixture(scope="module")
def folders(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A reader, and a derivative of its decoder."""
    root = tmp_path_factory.mktemp("plug-in")
    tuned = Path(shutil.copytree(tiny_decoder, root / "tuned"))
    weights = load_file(tuned / "model.safetensors")
    weights["model.norm.weight"] *= 3
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    return save_tiny_reader(root / "reader", tiny_decoder), tuned


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def options(reader: Path, decoder: Path | None) -> ModelOptions:
    name = None if decoder is None else str(decoder)
    return ModelOptions(model=str(reader), decoder=name, device="cpu", dtype="float32", backend="torch")


def test_a_reader_around_its_own_decoder_is_not_measured(folders: tuple[Path, Path], home: Path) -> None:
    assert open_readers(options(folders[0], None))[1] == []
    assert not (home / "plug-in").exists()


def test_the_ratio_is_that_of_the_answers_perplexities(folders: tuple[Path, Path]) -> None:
    reader = open_reader(options(*folders))
    assert perplexity_ratio(reader) == pytest.approx(plain_ratio(reader), rel=1e-4)
    reader.close()


def plain_ratio(reader: CepeReader) -> float:
    """Token by token, in float64."""
    losses: dict[bool, list[float]] = {True: [], False: []}
    passages = [Passage(f"{n}", "", "", text, n, 0, len(text), "") for n, text in enumerate(TEXTS)]
    for question, answer in QUESTIONS:
        prepared = reader.prepare(question, passages, prompt_passages=0, sampling=SamplingParams())
        labels = reader.tokenizer.plain_ids([answer])[0]
        for encoded, values in losses.items():
            for number, label in enumerate(labels):
                ids = torch.tensor([prepared.prompt.ids + labels[:number]])
                with torch.no_grad():
                    logits = reader.model(ids, context=prepared.context if encoded else None).logits[0, -1]
                values.append(-float(logits.double().log_softmax(-1)[label]))
    perplexity = {encoded: torch.tensor(values).double().mean().exp() for encoded, values in losses.items()}
    return float(perplexity[True] / perplexity[False])


@pytest.mark.parametrize(("stored", "warned"), [(1.5, True), (1.1, False), (0.2, False)])
def test_each_pair_is_measured_once(folders: tuple[Path, Path], home: Path, stored: float, warned: bool) -> None:
    reader = open_reader(options(*folders))
    plug_in_notes(reader)
    (path,) = (home / "plug-in").iterdir()
    assert json.loads(path.read_bytes())["ratio"] == pytest.approx(perplexity_ratio(reader), rel=1e-5)
    path.write_text(json.dumps({"ratio": stored}))
    reader.close()
    notes = open_readers(options(*folders))[1]
    assert [note for note in notes if "raise its perplexity by 50% on a sample" in note] == notes[:warned] == notes


def test_what_was_stored_and_is_damaged_is_measured_again(folders: tuple[Path, Path], home: Path) -> None:
    reader = open_reader(options(*folders))
    expected = plug_in_notes(reader)
    (path,) = (home / "plug-in").iterdir()
    path.write_text("{")
    assert plug_in_notes(reader) == expected
    assert json.loads(path.read_bytes())["ratio"] == pytest.approx(perplexity_ratio(reader), rel=1e-5)
    reader.close()
