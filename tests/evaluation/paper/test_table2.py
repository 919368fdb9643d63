"""Table 2: each reader's figures against plain implementations in float64, with ready and with retrieved passages."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.paper.options import Table2Options
from ragx.evaluation.paper.table2 import evaluate
from ragx.retrieval import Retriever
from ragx.util.tokenization import Tokenizer
from tests.evaluation.conftest import text, write_rows
from tests.evaluation.paper.conftest import MakeContest

OPTIONS = Table2Options(tokens=150, query=30, k="0,1,3", passage_tokens=25)
LAST = 120
ROWS = [
    {
        "text": text(seed, 120),
        "domain": domain,
        "passages": [{"text": text(100 * seed + n, 12), "score": 1.5 - n / 2} for n in range(4)],
    }
    for seed, domain in enumerate(["books", "code", "books"])
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", ROWS)


def expected(model: Any, tokenizer: Tokenizer, row: dict[str, Any], reader: str, k: int) -> float:
    """NLL of tokens 30 to 150."""
    ids = tokenizer.plain_ids([row["text"]])[0][:150]
    passages = [tokenizer.plain_ids([each["text"]])[0][:25] for each in row["passages"][:k]]
    labels = torch.tensor(ids[-LAST:])
    with torch.no_grad():
        if reader == "replug":
            weights = np.exp([each["score"] for each in row["passages"][:k]])
            rows = [model(torch.tensor([part + ids])).logits[0, -LAST - 1 : -1].softmax(dim=-1) for part in passages]
            mixed = sum(w * each for w, each in zip(weights / weights.sum(), rows, strict=True))
            return F.nll_loss(mixed.log(), labels, reduction="sum").item()
        context = {}
        if reader == "cepe":
            longest = max(map(len, passages))
            padded = [part + [0] * (longest - len(part)) for part in passages]
            mask = [[1] * len(part) + [0] * (longest - len(part)) for part in passages]
            context = {"encoder_input_ids": torch.tensor([padded]), "encoder_attention_mask": torch.tensor([mask])}
            passages = []
        logits = model(torch.tensor([[*chain(*passages), *ids]]), **context).logits[0, -LAST - 1 : -1]
        return F.cross_entropy(logits, labels, reduction="sum").item()


def test_perplexities_are_those_of_plain_implementations(
    contest: MakeContest, exact: Any, rows: Path, tokenizer: Tokenizer
) -> None:
    table = evaluate(contest(), [rows], OPTIONS)
    assert list(table.columns)[:6] == ["model", "reader", "k", "books", "code", "macro average"]
    assert [tuple(row[1:3]) for row in table.rows] == [
        ("cepe", 1), ("cepe", 3), ("full", 0), ("full", 1), ("full", 3), ("replug", 1), ("replug", 3),
    ]  # fmt: skip
    for _, reader, k, *cells in table.rows:
        nlls = [expected(exact, tokenizer, row, str(reader), int(k)) for row in ROWS]  # type: ignore[arg-type]
        books, code = math.exp((nlls[0] + nlls[2]) / (2 * LAST)), math.exp(nlls[1] / LAST)
        figures = [cell.value for cell in cells[:3]]  # type: ignore[union-attr]
        assert figures == pytest.approx([books, code, (books + code) / 2], rel=1e-4)


def test_passages_come_from_an_index(contest: MakeContest, retriever: Retriever, tmp_path: Path, rows: Path) -> None:
    bare = write_rows(tmp_path / "bare.jsonl", [{"text": row["text"]} for row in ROWS])
    with pytest.raises(ConfigError, match="give an --index"):
        evaluate(contest(), [bare], OPTIONS)
    table = evaluate(contest(reader="full,cepe"), [bare], OPTIONS, retriever, "bm25")
    assert list(table.columns)[3:5] == ["bare", "macro average"]
    plain = next(row for row in table.rows if row[1:3] == ["full", 0])
    ready = next(row for row in evaluate(contest(reader="full"), [rows], OPTIONS).rows if row[2] == 0)
    assert plain[3] != ready[3], "the domain has all rows"
    assert len({row[3].value for row in table.rows}) == len(table.rows)  # type: ignore[union-attr]


def test_ids_are_read_as_they_are(contest: MakeContest, tokenizer: Tokenizer, rows: Path, tmp_path: Path) -> None:
    as_ids = [
        {
            "ids": tokenizer.plain_ids([row["text"]])[0],
            "domain": row["domain"],
            "passages": [
                {"ids": tokenizer.plain_ids([each["text"]])[0], "score": each["score"]} for each in row["passages"]
            ],
        }
        for row in ROWS
    ]
    path = write_rows(tmp_path / "ids.jsonl", as_ids)
    first, second = (evaluate(contest(), [each], OPTIONS) for each in (rows, path))
    assert [row[:6] for row in first.rows] == [row[:6] for row in second.rows]


def test_prompts_beyond_the_window_are_measured_on_request(contest: MakeContest, rows: Path) -> None:
    options = OPTIONS.model_copy(update={"passage_tokens": 200, "k": "1,3"})
    within = evaluate(contest(reader="full"), [rows], options)
    beyond = evaluate(contest(reader="full", beyond_window=True), [rows], options)
    assert [[row[2] for row in table.rows] for table in (within, beyond)] == [[1], [1, 3]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"title": "x"}, "neither a `text` nor"),
        ({"text": "short"}, "has 150 tokens"),
        ({"ids": ["a"]}, "no list of `ids`"),
    ],
)
def test_unusable_rows(contest: MakeContest, tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        evaluate(contest(), [write_rows(tmp_path / "rows.jsonl", [row])], OPTIONS)
