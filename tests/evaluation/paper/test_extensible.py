"""Extensible embeddings in Table 1 and `ragx eval lm`, against plain implementations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ragx import extensible
from ragx.cepe.model import CepeModel
from ragx.evaluation import long_documents
from ragx.evaluation.paper.options import Table1Options
from ragx.evaluation.paper.table1 import evaluate
from ragx.evaluation.results import Results
from ragx.reader.cepe import CepeReader
from ragx.util.tokenization import Tokenizer
from tests.evaluation.paper.conftest import MakeContest
from tests.helpers.tiny_embedders import save_tiny_embedder

OPTIONS = Table1Options(tokens="150,300,900", decoder_tokens=150, scored=40, stride=1000, each=1)


@pytest.fixture(scope="module")
def folder(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_embedder(tmp_path_factory.mktemp("embedder"), tiny_decoder)


@pytest.fixture(scope="module")
def model(folder: Path) -> CepeModel:
    return extensible.load(str(folder), dtype="float32", device="cpu")


def nll(model: CepeModel, before: list[int], ids: list[int], ratio: int, last: int) -> float:
    """Of the last tokens, after every `ratio`-th state of each chunk of 8 tokens before."""
    assert model.extensible is not None
    embed_tokens = model.model.embed_tokens
    with torch.no_grad():
        states = [
            model.extensible(embed_tokens(torch.tensor([before[at : at + 8]])))[0] for at in range(0, len(before), 8)
        ]
        embeddings = [each[ratio - 1 :: ratio] for each in states]
        inputs = torch.cat([*embeddings, embed_tokens(torch.tensor(ids))])
        logits = model(inputs_embeds=inputs[None]).logits[0, -last - 1 : -1]
    return F.cross_entropy(logits, torch.tensor(ids[-last:]), reduction="sum").item()


def first_tokens(documents: Path, tokenizer: Tokenizer, length: int) -> list[list[int]]:
    every = [tokenizer.plain_ids([json.loads(line)["text"]])[0] for line in documents.read_text().splitlines()]
    return [ids[:length] for ids in every if len(ids) >= length]


def test_table_1_has_a_row_for_each_ratio(
    contest: MakeContest, folder: Path, model: CepeModel, documents: Path, tokenizer: Tokenizer
) -> None:
    table = evaluate(contest(folder, reader="full,cepe,extensible"), [documents], OPTIONS)
    windows = first_tokens(documents, tokenizer, 900)
    figures = {(row[1], row[2]): row[5].value for row in table.rows}  # type: ignore[union-attr]
    names = ["extensible, k = 2", "extensible, k = 4"]
    extensible_rows = [(names[0], 300), (names[1], 300), (names[1], 900)]  # 375 places and 150 tokens exceed 512
    assert [*figures] == [("full", 150), ("full", 300), *extensible_rows]
    for name, tokens in extensible_rows:
        ratio = int(name[-1])
        nlls = [nll(model, ids[-tokens:-150], ids[-150:], ratio, 40) for ids in windows]
        assert figures[name, tokens] == pytest.approx(math.exp(sum(nlls) / (40 * len(nlls))), rel=1e-4)
    (row,) = evaluate(
        contest(folder, reader="extensible"), [documents], OPTIONS.model_copy(update={"ratio": "8", "tokens": "300"})
    ).rows
    assert row[1] == "extensible, k = 8"


def test_a_decoder_without_an_embedder_has_no_rows(
    contest: MakeContest, tiny_decoder: Path, documents: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = OPTIONS.model_copy(update={"tokens": "300"})
    table = evaluate(contest(tiny_decoder, reader="full,extensible", limit=1), [documents], options)
    assert [row[1] for row in table.rows] == ["full"]
    assert "has no trained extensible reader: its rows of extensible are left out" in capsys.readouterr().err


def test_long_documents_are_read_as_embeddings(model: CepeModel, documents: Path, tokenizer: Tokenizer) -> None:
    reader = CepeReader(model, tokenizer)
    table = long_documents.evaluate(
        reader, documents, Results(None, {}), decoder_tokens=300, encoder_tokens=[0, 200], ratios=[4], each=1, limit=1
    )
    assert [row[:3] for row in table.rows] == [
        ["plain decoder", 300, 0], ["extensible, k = 4", 300, 200], ["plain decoder", 500, 0],
    ]  # fmt: skip
    (line, *_) = documents.read_text().splitlines()
    every = tokenizer.plain_ids([json.loads(line)["text"]])[0]
    start = 500 * (len(every) // 500 // 2)
    before, ids = every[start : start + 200], every[start + 200 : start + 500]
    expected = math.exp(nll(model, before, ids, 4, 256) / 256)
    assert table.rows[1][3].value == pytest.approx(expected, rel=1e-4)  # type: ignore[union-attr]
