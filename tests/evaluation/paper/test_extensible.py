"""Extensible embeddings in the paper's tables and `ragx eval lm`, against plain implementations."""

from __future__ import annotations

import json
import math
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ragx import extensible
from ragx.cepe.model import CepeModel
from ragx.evaluation import long_documents
from ragx.evaluation.needle import read_sentences
from ragx.evaluation.paper import needle, table2, table3, table4, table7
from ragx.evaluation.paper.classification import balanced, read_labelled
from ragx.evaluation.paper.long_inputs import read_inputs
from ragx.evaluation.paper.options import (
    NeedleOptions,
    Table1Options,
    Table2Options,
    Table3Options,
    Table4Options,
    Table7Options,
)
from ragx.evaluation.paper.table1 import evaluate
from ragx.evaluation.results import Results
from ragx.reader.cepe import CepeReader
from ragx.util.tokenization import Tokenizer
from tests.evaluation.conftest import text, write_rows
from tests.evaluation.paper.conftest import MakeContest
from tests.helpers.tiny_embedders import save_tiny_embedder

OPTIONS = Table1Options(tokens="150,300,900", decoder_tokens=150, scored=40, stride=1000, each=1)


@pytest.fixture(scope="module")
def folder(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_embedder(tmp_path_factory.mktemp("embedder"), tiny_decoder)


@pytest.fixture(scope="module")
def model(folder: Path) -> CepeModel:
    return extensible.load(str(folder), dtype="float32", device="cpu")


def logits_after(model: CepeModel, passages: list[list[int]], ids: list[int], ratio: int) -> torch.Tensor:
    """Of `ids`, after every `ratio`-th state of each chunk of 8 tokens of the passages, and the last one for a rest."""
    assert model.extensible is not None
    embed_tokens = model.model.embed_tokens
    embeddings = []
    with torch.no_grad():
        for passage in passages:
            for at in range(0, len(passage), 8):
                chunk = passage[at : at + 8]
                (states,) = model.extensible(embed_tokens(torch.tensor([chunk])))
                embeddings += [states[ratio - 1 :: ratio], states[len(chunk) - 1 :][: bool(len(chunk) % ratio)]]
        inputs = torch.cat([*embeddings, embed_tokens(torch.tensor(ids))])
        logits: torch.Tensor = model(inputs_embeds=inputs[None]).logits[0, -len(ids) :]
    return logits


def nll(model: CepeModel, passages: list[list[int]], ids: list[int], ratio: int, last: int) -> float:
    """Of the last tokens."""
    logits = logits_after(model, passages, ids, ratio)[-last - 1 : -1]
    return F.cross_entropy(logits, torch.tensor(ids[-last:]), reduction="sum").item()


def greedy(model: CepeModel, passages: list[list[int]], prompt: list[int], ratio: int, tokens: int) -> list[int]:
    answer: list[int] = []
    while len(answer) < tokens and answer[-1:] != [2]:
        answer.append(int(logits_after(model, passages, prompt + answer, ratio)[-1].argmax()))
    return answer


def said(tokenizer: Tokenizer, answer: list[int], *, lines: bool = False) -> str:
    """The first line of an answer, or all, without an incomplete character at its end."""
    text = tokenizer.decode([token for token in answer if token > 2]).rstrip("\ufffd")
    return (text if lines else text.split("\n")[0]).strip()


def raw(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()[1:]]


def first_tokens(documents: Path, tokenizer: Tokenizer, length: int) -> list[list[int]]:
    every = [tokenizer.plain_ids([json.loads(line)["text"]])[0] for line in documents.read_text().splitlines()]
    return [ids[:length] for ids in every if len(ids) >= length]


def test_table_1_has_a_row_for_each_ratio(
    contest: MakeContest, folder: Path, model: CepeModel, documents: Path, tokenizer: Tokenizer
) -> None:
    table = evaluate(contest(folder, reader="full,cepe,extensible"), [documents], OPTIONS)
    windows = first_tokens(documents, tokenizer, 900)
    figures = {(row[1], row[2]): row[5].value for row in table.rows}  # type: ignore[union-attr]
    names = ["extensible, ratio 2", "extensible, ratio 4"]
    extensible_rows = [(names[0], 300), (names[1], 300), (names[1], 900)]  # 375 places and 150 tokens exceed 512
    assert [*figures] == [("full", 150), ("full", 300), *extensible_rows]
    for name, tokens in extensible_rows:
        ratio = int(name[-1])
        nlls = [nll(model, [ids[-tokens:-150]], ids[-150:], ratio, 40) for ids in windows]
        assert figures[name, tokens] == pytest.approx(math.exp(sum(nlls) / (40 * len(nlls))), rel=1e-4)
    (row,) = evaluate(
        contest(folder, reader="extensible", ratio="8"), [documents], OPTIONS.model_copy(update={"tokens": "300"})
    ).rows
    assert row[1] == "extensible, ratio 8"


def test_table_2_puts_the_best_passage_next_to_the_text(
    contest: MakeContest, folder: Path, model: CepeModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    row = {"text": text(0, 120), "passages": [text(n + 1, 12) for n in range(3)]}
    rows = write_rows(tmp_path / "rows.jsonl", [row])
    options = Table2Options(tokens=150, query=30, k="0,2", passage_tokens=20)
    table = table2.evaluate(contest(folder, reader="full,extensible", ratio="4"), [rows], options)
    assert [row[1:3] for row in table.rows] == [["full", 0], ["full", 2], ["extensible, ratio 4", 2]]
    ids, *passages = tokenizer.plain_ids([row["text"], *row["passages"]])
    expected = nll(model, [passages[1][:20], passages[0][:20]], ids[:150], 4, 120)
    assert table.rows[-1][3].value == pytest.approx(math.exp(expected / 120), rel=1e-4)  # type: ignore[union-attr]


def test_table_3_embeds_each_demonstration(
    contest: MakeContest, folder: Path, model: CepeModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    labels = ["bright snow", "sun"]
    rows = [{"text": text(n, 4), "label": labels[n % 2]} for n in range(8)]
    files = write_rows(tmp_path / "train.jsonl", rows[:7]), write_rows(tmp_path / "moods.jsonl", rows[7:])
    out = tmp_path / "raw.jsonl"
    options = Table3Options(decoder_shots="1", encoder_shots="3", seeds="7")
    table3.evaluate(contest(folder, reader="extensible", ratio="2", out=out), [files], options)
    inside, *others = balanced(read_labelled(files[0]), 4, 7)
    shown = [f"Text: {each.text}\nLabel: {each.label}" for each in (inside, *others)]
    shot, *passages = tokenizer.plain_ids([f"{shown[0]}\n\nText: {rows[7]['text']}\nLabel:", *shown[1:]])
    (row,) = raw(out)
    for ids, found in zip(
        tokenizer.plain_ids([f" {each}" for each in labels]), row["values"]["log_probs"], strict=True
    ):
        assert found == pytest.approx(-nll(model, passages, [1, *shot, *ids], 2, len(ids)), rel=1e-4)


def test_table_4_embeds_what_precedes_the_decoders_tokens(
    contest: MakeContest, folder: Path, model: CepeModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    stories = write_rows(tmp_path / "s.jsonl", [{"input": text(0, 260), "question": "What?", "answers": ["x"]}])
    out = tmp_path / "raw.jsonl"
    options = Table4Options(tokens="120,400,all", decoder_tokens=120, answer_tokens=5)
    table = table4.evaluate(contest(folder, reader="extensible", out=out), [f"qasper={stories}"], options)
    assert [row[1:4] for row in table.rows] == [[f"extensible, ratio {ratio}", 400, 120] for ratio in (2, 4)]
    (item,) = read_inputs("qasper", stories, None)
    ids = [*tokenizer.plain_ids([item.text])[0], *tokenizer.plain_ids([item.request])[0]]
    for row, ratio in zip(raw(out), (2, 4), strict=True):
        expected = greedy(model, [ids[-394:-114]], [1, *ids[-114:]], ratio, 5)
        assert row["values"]["answer"] == said(tokenizer, expected)
        assert row["values"]["read_tokens"] == 395


def test_table_7_puts_the_best_document_next_to_the_prompt(
    contest: MakeContest, folder: Path, model: CepeModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    documents = [{"title": f"T{n}", "text": text(n, 8)} for n in range(4)]
    questions = write_rows(tmp_path / "nq.jsonl", [{"question": "What?", "answers": ["x"], "ctxs": documents}])
    out = tmp_path / "raw.jsonl"
    options = Table7Options(k="1,4", prompt_documents=1, document_tokens=20, shots=0, max_new_tokens=6)
    table7.evaluate(contest(folder, reader="extensible", ratio="4", out=out), [(questions, questions)], options)
    first, *others = (f"Document: {each['title']}\n{each['text']}" for each in documents)
    (prompt,) = tokenizer.plain_ids([f"{first}\n\nQuestion: What?\nAnswer:"])
    passages = [ids[-20:] for ids in tokenizer.plain_ids(others)][::-1]
    alone, beside = raw(out)
    assert alone["values"]["answer"] == said(tokenizer, greedy(model, [], [1, *prompt], 4, 6))
    assert beside["values"]["answer"] == said(tokenizer, greedy(model, passages, [1, *prompt], 4, 6))


def test_the_needle_is_in_the_embeddings(
    contest: MakeContest, folder: Path, model: CepeModel, documents: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    pytest.importorskip("rouge_score")
    out = tmp_path / "raw.jsonl"
    options = NeedleOptions(lengths="260,420", depths=2, decoder_tokens=260, max_new_tokens=5)
    needle.evaluate(contest(folder, reader="extensible", ratio="4", out=out), documents, options)
    before, request = tokenizer.plain_ids([needle.BEFORE, needle.REQUEST])
    fixed = 1 + len(before) + len(request) + 5
    hay = read_sentences(documents, tokenizer, tokens=420)
    for row, depth in zip(raw(out), (0, 1), strict=True):
        whole = needle.haystack(hay, tokenizer, tokens=420 - fixed, depth=depth)
        left = list(accumulate(reversed(whole.tokens)))[::-1]
        first = next(place for place, tokens in enumerate(left) if tokens <= 260 - fixed)
        passage, inside = tokenizer.plain_ids([" ".join(whole.texts[:first]), " ".join(whole.texts[first:])])
        assert (needle.NEEDLE in whole.texts[:first]) == (depth == 0)
        expected = greedy(model, [passage], [1, *before, *inside, *request], 4, 5)
        assert row["values"]["answer"] == said(tokenizer, expected, lines=True)


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
        ["plain decoder", 300, 0], ["extensible, ratio 4", 300, 200], ["plain decoder", 500, 0],
    ]  # fmt: skip
    (line, *_) = documents.read_text().splitlines()
    every = tokenizer.plain_ids([json.loads(line)["text"]])[0]
    start = 500 * (len(every) // 500 // 2)
    before, ids = every[start : start + 200], every[start + 200 : start + 500]
    expected = math.exp(nll(model, [before], ids, 4, 256) / 256)
    assert table.rows[1][3].value == pytest.approx(expected, rel=1e-4)  # type: ignore[union-attr]
