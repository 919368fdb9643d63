"""A contest of a tiny reader and a tiny decoder, and their models in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ragx import cepe
from ragx.cepe.added_weights import save_reader
from ragx.evaluation.paper.contest import Contest, parse_readers
from ragx.evaluation.paper.options import ContestOptions
from ragx.evaluation.results import Results
from ragx.reader.cepe import CepeReader
from ragx.util.tokenization import Tokenizer

MakeContest = Callable[..., Contest]


@pytest.fixture(scope="session")
def reader_folder(reader: CepeReader, tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cepe-reader")
    save_reader(reader.model, folder, decoder=str(tiny_decoder))  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="session")
def exact(reader_folder: Path) -> Any:
    """The reader in float64."""
    return cepe.load(str(reader_folder), dtype="float32", device="cpu").double()


@pytest.fixture(scope="session")
def tokenizer(reader: CepeReader) -> Tokenizer:
    return reader.tokenizer


@pytest.fixture
def contest(reader_folder: Path) -> MakeContest:
    """A contest on the CPU in float32."""

    def make(*models: str | Path, reader: str = "cepe,full,replug,streaming", **options: Any) -> Contest:
        given = ContestOptions(reader=reader, device="cpu", dtype="float32", **options)
        names = [str(model) for model in models] or [str(reader_folder)]
        return Contest(names, parse_readers(reader), given, Results(given.out, {"task": "test"}))

    return make
