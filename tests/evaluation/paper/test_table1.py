"""Table 1: the windows, and each reader's figures against plain implementations in float64."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.paper.options import Table1Options
from ragx.evaluation.paper.table1 import curves, evaluate
from ragx.util.tokenization import Tokenizer
from tests.evaluation.paper.conftest import MakeContest
from tests.helpers.plain_llama import plain_logits
from tests.helpers.toy_embedders import WordEmbedder

OPTIONS = Table1Options(
    tokens="300,520,700",
    decoder_tokens=150,
    scored=40,
    stride=500,
    each=2,
    sinks=3,
    recent=50,
    strides="60",
    replug_tokens=200,
    replug_chunks=1,
)
LAST = 40


class Weigher(WordEmbedder):
    """Scores small enough for every passage to count."""

    def encode_question(self, question: str) -> np.ndarray:
        return super().encode_question(question) / 100


@pytest.fixture(scope="module")
def windows(documents: Path, tokenizer: Tokenizer) -> list[list[int]]:
    """The 700 tokens of each window: the first two of every document that has 700."""
    found = []
    for line in documents.read_text().splitlines():
        ids = tokenizer.plain_ids([json.loads(line)["text"]])[0]
        found += [ids[end - 700 : end] for end in (700, 1200) if end <= len(ids)]
    return found


def nll(logits: torch.Tensor, ids: list[int]) -> float:
    """Of the last tokens, from logits (N, V) after each token."""
    return F.cross_entropy(logits[-LAST - 1 : -1], torch.tensor(ids[-LAST:]), reduction="sum").item()


def full(model: Any, ids: list[int]) -> float:
    with torch.no_grad():
        return nll(model(torch.tensor([ids])).logits[0], ids)


def attended(model: Any, ids: list[int]) -> float:
    """150 tokens in the decoder and those before in the encoder, in chunks of 256, padded."""
    before, inside = ids[:-150], ids[-150:]
    parts = [before[at : at + 256] for at in range(0, len(before), 256)]
    passages = torch.tensor([[part + [0] * (256 - len(part)) for part in parts]])
    mask = torch.tensor([[[1] * len(part) + [0] * (256 - len(part)) for part in parts]])
    with torch.no_grad():
        output = model(torch.tensor([inside]), encoder_input_ids=passages, encoder_attention_mask=mask)
    return nll(output.logits[0], inside)


def streamed(model: Any, ids: list[int]) -> float:
    def kept(length: int) -> list[int] | None:
        return [0, 1, 2, *range(length - 50, length)] if length == 3 + 50 + 60 else None

    return nll(plain_logits(model, ids, kept), ids)


def mixed(model: Any, ids: list[int], tokenizer: Tokenizer, count: int = 1) -> float:
    """200 tokens after each of the chunks of 256 before them."""
    inside = ids[-200:]
    parts = [ids[at - 256 : at] for at in range(len(ids) - 200, 255, -256)][:count]
    query = Weigher().encode_question(tokenizer.decode(inside[:256]))
    scores = [float(query @ Weigher().encode_question(tokenizer.decode(part))) for part in parts]
    weights = np.exp(scores) / np.exp(scores).sum()
    with torch.no_grad():
        rows = [model(torch.tensor([part + inside])).logits[0, -LAST - 1 : -1].softmax(dim=-1) for part in parts]
    labels = torch.tensor(inside[-LAST:])[:, None]
    return -sum(w * row.gather(1, labels) for w, row in zip(weights, rows, strict=True)).log().sum().item()


def test_perplexities_are_those_of_plain_implementations(
    contest: MakeContest, exact: Any, windows: list[list[int]], documents: Path, tokenizer: Tokenizer
) -> None:
    table = evaluate(contest(beyond_window=True), [documents], OPTIONS, Weigher())
    rows = {(row[1], row[2]): row[5] for row in table.rows}
    expected = {}
    for tokens in (300, 520, 700):
        expected["full", tokens] = [full(exact, ids[-tokens:]) for ids in windows]
        expected["cepe", tokens] = [attended(exact, ids[-tokens:]) for ids in windows]
        expected["streaming", tokens] = [streamed(exact, ids[-tokens:]) for ids in windows]
    for tokens in (520, 700):
        expected["replug", tokens] = [mixed(exact, ids[-tokens:], tokenizer) for ids in windows]
    figures = {key: math.exp(sum(nlls) / (LAST * len(windows))) for key, nlls in expected.items()}
    assert {key: cell.value for key, cell in rows.items()} == pytest.approx(figures, rel=1e-4)
    assert len({round(figure, 3) for figure in figures.values()}) >= 10, "every row measures something else"
    assert f"({len(windows)} of documents)" in table.notes[0]


def test_passages_are_weighed_by_the_embedder(
    contest: MakeContest, exact: Any, documents: Path, tokenizer: Tokenizer
) -> None:
    options = OPTIONS.model_copy(update={"replug_chunks": 2, "tokens": "713"})
    (weighed,) = evaluate(contest(reader="replug", limit=1), [documents], options, Weigher()).rows
    (alike,) = evaluate(contest(reader="replug", limit=1), [documents], options).rows
    ids = tokenizer.plain_ids([json.loads(documents.read_text().splitlines()[0])["text"]])[0][:713]
    assert weighed[5].value == pytest.approx(math.exp(mixed(exact, ids, tokenizer, 2) / LAST), rel=1e-4)
    assert weighed[5] != alike[5]


def test_rows_that_do_not_fit_are_left_out(
    contest: MakeContest, documents: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = evaluate(contest(tiny_decoder, limit=1), [documents], OPTIONS)
    assert [row[1:3] for row in table.rows] == [
        ["full", 300], ["replug", 520], ["replug", 700], ["streaming", 300], ["streaming", 520], ["streaming", 700],
    ]  # fmt: skip
    assert "no trained cepe reader: its rows of cepe are left out" in capsys.readouterr().err


def test_strides_are_rows(contest: MakeContest, exact: Any, windows: list[list[int]], documents: Path) -> None:
    options = OPTIONS.model_copy(update={"tokens": "700", "strides": "60,1"})
    rows = evaluate(contest(reader="streaming", limit=1), [documents], options).rows
    assert [row[3:5] for row in rows] == [[113, 60], [54, 1]]

    def kept(length: int) -> list[int] | None:
        return [0, 1, 2, *range(length - 50, length)] if length == 54 else None

    expected = math.exp(nll(plain_logits(exact, windows[0], kept), windows[0]) / LAST)
    assert rows[1][5].value == pytest.approx(expected, rel=1e-4)  # type: ignore[union-attr]


def test_a_stretched_decoder_is_another_model(contest: MakeContest, documents: Path, tiny_decoder: Path) -> None:
    table = evaluate(contest(tiny_decoder, f"{tiny_decoder}@linear:2", reader="full", limit=1), [documents], OPTIONS)
    assert [row[2] for row in table.rows] == [300, 300, 520, 700]
    first, stretched = table.rows[0][5], table.rows[1][5]
    assert first != stretched


def test_an_interrupted_run_continues(contest: MakeContest, documents: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw.jsonl"
    whole = evaluate(contest(out=out, reader="full,streaming"), [documents], OPTIONS)
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:5]) + lines[5][:20])
    again = evaluate(contest(out=out, reader="full,streaming"), [documents], OPTIONS)
    assert [row[:6] for row in again.rows] == [row[:6] for row in whole.rows]
    assert len(out.read_text().splitlines()) == len(lines)
    values = json.loads(lines[1])["values"]
    assert values["seconds"] > 0
    assert values["peak_bytes"] > 10**8
    more = evaluate(contest(out=out, reader="full"), [documents], OPTIONS)
    assert more.rows[0][:6] == whole.rows[0][:6]
    assert len(out.read_text().splitlines()) == len(lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": "40"}, "tokens must exceed the 40 scored ones, got 40"),
        ({"decoder_tokens": 20}, "decoder_tokens must exceed"),
        ({"tokens": "many"}, "--tokens must be whole numbers"),
    ],
)
def test_settings_out_of_range(contest: MakeContest, documents: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(contest(), [documents], OPTIONS.model_copy(update=changes))


def test_documents_that_are_too_short(contest: MakeContest, documents: Path) -> None:
    with pytest.raises(CorpusError, match="has 100,000 tokens"):
        evaluate(contest(), [documents], OPTIONS.model_copy(update={"tokens": "100000"}))


def test_the_curves_are_the_table(contest: MakeContest, documents: Path, reader_folder: Path) -> None:
    options = OPTIONS.model_copy(update={"tokens": "300,400", "strides": "60,80"})
    table = evaluate(contest(reader="full,streaming", limit=1), [documents], options)
    name, cell = reader_folder.name, lambda row: table.rows[row][5].value  # type: ignore[union-attr]
    assert curves(table) == {
        "documents": {
            f"{name}, full": [(300, cell(0)), (400, cell(1))],
            f"{name}, streaming, stride 60": [(300, cell(2)), (400, cell(4))],
            f"{name}, streaming, stride 80": [(300, cell(3)), (400, cell(5))],
        }
    }


def test_attention_is_sharpened_only_if_asked(
    contest: MakeContest, exact: Any, windows: list[list[int]], documents: Path
) -> None:
    options = OPTIONS.model_copy(update={"tokens": "300", "each": 1})
    ids = windows[0][:300]
    figures = {}
    for beyond in (None, 1):
        (row,) = evaluate(contest(reader="cepe", limit=1, sharpen_beyond=beyond), [documents], options).rows
        exact.sharpen_beyond = beyond
        try:
            figures[beyond] = math.exp(attended(exact, ids) / LAST)
        finally:
            exact.sharpen_beyond = None
        assert row[5].value == pytest.approx(figures[beyond], rel=1e-4)  # type: ignore[union-attr]
    assert figures[1] != figures[None]
