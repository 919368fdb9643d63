"""Long documents, retrieved passages and copying: figures against independent computations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation import copying, long_documents, retrieved
from ragx.evaluation.bootstrap import Estimate
from ragx.evaluation.documents import Excerpt, sample_excerpts
from ragx.evaluation.results import Results
from ragx.evaluation.scoring import score
from ragx.evaluation.tables import Table
from ragx.reader.cepe import CepeReader
from ragx.reader.prompt import passage_text
from ragx.retrieval import Retriever
from ragx.retrieval.repeats import search_new
from tests.helpers.tiny_cross_encoders import LengthReranker


def perplexity(nlls: list[float]) -> float:
    return math.exp(sum(nlls) / (256 * len(nlls)))


def values(table: Table, column: str) -> list[float | None]:
    number = list(table.columns).index(column)
    return [cell.value if isinstance(cell := row[number], Estimate) else None for row in table.rows]


def excerpts(reader: CepeReader, documents: Path, length: int, each: int = 1) -> list[Excerpt]:
    return sample_excerpts(documents, reader.tokenizer, length=length, each=each, limit=None)[0]


@pytest.fixture(scope="module")
def long(reader: CepeReader, documents: Path) -> Table:
    return long_documents.evaluate(
        reader,
        documents,
        Results(None, {}),
        decoder_tokens=300,
        encoder_tokens=[0, 200, 700],
        each=2,
        limit=None,
    )


def test_long_documents_have_one_row_per_setting(long: Table) -> None:
    assert [row[:3] for row in long.rows] == [
        ["plain decoder", 300, 0],
        ["cepe", 300, 200],
        ["cepe", 300, 700],
        ["plain decoder", 500, 0],
        ["plain decoder", 1000, 0],
    ]
    assert long.rows[4][3:] == [None, None]  # beyond the window of 512
    assert "from 3 documents (1 too short)" in long.notes[0]


def test_long_documents_equal_an_independent_computation(long: Table, reader: CepeReader, documents: Path) -> None:
    every = excerpts(reader, documents, 1000, each=2)
    model = reader.model

    def perplexity_with(decoder: int, passages: list[slice]) -> float:
        scores = [
            score(model, each.ids[1000 - decoder :], [each.ids[part] for part in passages], last=256) for each in every
        ]
        return perplexity([each["nll"] for each in scores])

    expected = [
        perplexity_with(300, []),
        perplexity_with(300, [slice(500, 700)]),
        perplexity_with(300, [slice(0, 256), slice(256, 512), slice(512, 700)]),
        perplexity_with(500, []),
    ]
    assert values(long, "perplexity")[:4] == pytest.approx(expected, rel=1e-5)
    assert values(long, "÷ first row")[:4] == pytest.approx([each / expected[0] for each in expected], rel=1e-5)
    assert len({round(each, 6) for each in expected}) == 4


def test_the_first_row_compared_with_itself_has_an_interval_of_no_width(long: Table) -> None:
    assert long.rows[0][4] == Estimate(1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_tokens": 256}, "decoder_tokens must be between 257"),
        ({"decoder_tokens": 513}, "decoder_tokens must be between 257"),
        ({"encoder_tokens": [0, -5]}, "encoder_tokens must not be negative"),
        ({"encoder_tokens": [90_000]}, "none of the 4 documents"),
    ],
)
def test_numbers_out_of_range(reader: CepeReader, documents: Path, changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"decoder_tokens": 300, "encoder_tokens": [0], "each": 1, "limit": 1} | changes
    with pytest.raises((ConfigError, CorpusError), match=message):
        long_documents.evaluate(reader, documents, Results(None, {}), **arguments)


def test_retrieved_passages_equal_an_independent_computation(
    reader: CepeReader, documents: Path, retriever: Retriever
) -> None:
    table = retrieved.evaluate(
        reader,
        documents,
        retriever,
        "bm25",
        Results(None, {}),
        decoder_tokens=512,
        ks=[0, 2, 5],
        each=1,
        limit=2,
    )
    assert [row[:3] for row in table.rows] == [
        ["plain decoder", 0, "0.0"],
        ["cepe, passages in the encoder", 2, "2.0"],
        ["cepe, passages in the encoder", 5, "5.0"],
        ["plain decoder, passages prepended", 2, "0.0"],  # the window is full
        ["plain decoder, passages prepended", 5, "0.0"],
    ]
    nlls: dict[int, list[float]] = {0: [], 2: [], 5: []}
    for excerpt in excerpts(reader, documents, 512)[:2]:
        query = reader.tokenizer.decode(excerpt.ids[:256])
        passages = [passage_text(hit.passage) for hit in retriever.search(query, 5, "bm25")]
        for k, k_nlls in nlls.items():
            ids = reader.tokenizer.plain_ids(passages[:k])
            k_nlls.append(score(reader.model, excerpt.ids, ids, last=256)["nll"])
    plain, two, five = map(perplexity, nlls.values())
    assert values(table, "perplexity") == pytest.approx([plain, two, five, plain, plain], rel=1e-5)


def test_reranked_passages_come_in_the_rerankers_order(retriever: Retriever) -> None:
    found = [hit.passage for hit in retriever.search("snow in Rome", 60, "bm25")]
    passages, _ = search_new(retriever, "snow in Rome", "", 3, "bm25", LengthReranker(depth=4))
    assert passages == sorted(found[:4], key=lambda passage: -len(passage.text)) + found[4:]


def test_the_best_passages_that_fit_are_prepended_the_best_one_last(reader: CepeReader, retriever: Retriever) -> None:
    passages = [hit.passage for hit in retriever.search("snow in Rome", 4, "bm25")]
    blocks = reader.tokenizer.plain_ids([f"{passage.text}\n\n" for passage in passages])
    room = sum(map(len, blocks[:3]))
    assert retrieved.prepended_ids(reader, passages, 512 - room) == (blocks[2] + blocks[1] + blocks[0], 3)
    assert retrieved.prepended_ids(reader, passages, 512 - room + 1) == (blocks[1] + blocks[0], 2)


def test_passages_that_repeat_the_excerpt_are_skipped(reader: CepeReader, tmp_path: Path, retriever: Retriever) -> None:
    own = retriever.index.passage(4).text
    path = tmp_path / "own.txt"
    path.write_text(f"{own} " * 40)
    table = retrieved.evaluate(
        reader, path, retriever, "bm25", Results(None, {}), decoder_tokens=512, ks=[12], each=1, limit=None
    )
    assert "1.0 per excerpt repeated it" in table.notes[0]
    assert float(str(table.rows[1][2])) < 12


def test_the_query_and_the_scored_tokens_must_fit(reader: CepeReader, documents: Path, retriever: Retriever) -> None:
    for arguments, message in (
        ({"decoder_tokens": 511, "ks": [1]}, "decoder_tokens must be between 512"),
        ({"decoder_tokens": 512, "ks": [-1]}, "k must not be negative"),
    ):
        options: Any = {"each": 1, "limit": 1, **arguments}
        with pytest.raises(ConfigError, match=message):
            retrieved.evaluate(reader, documents, retriever, "bm25", Results(None, {}), **options)


def test_copying(reader: CepeReader, documents: Path) -> None:
    table = copying.evaluate(reader, documents, Results(None, {}), each=2, limit=None)
    every = excerpts(reader, documents, 256, each=2)
    assert len(every) == 6
    for row, inside in zip(table.rows, (True, False), strict=True):
        scores = [
            score(
                reader.model,
                each.ids,
                [each.ids[n : n + 64] for n in range(0, 256, 64)] if inside else [],
                last=255,
            )
            for each in every
        ]
        loss, accuracy = row[1:]
        assert isinstance(loss, Estimate)
        assert isinstance(accuracy, Estimate)
        assert loss.value == pytest.approx(sum(each["nll"] for each in scores) / (6 * 255))
        assert accuracy.value == pytest.approx(100 * sum(each["correct"] for each in scores) / (6 * 255))
