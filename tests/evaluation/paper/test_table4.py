"""Table 4: data, prompts, and answers that equal those of plain decoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.paper.decoding import AtLeast
from ragx.evaluation.paper.long_inputs import TASKS, LongInput, divide, read_inputs
from ragx.evaluation.paper.options import Table4Options
from ragx.evaluation.paper.table4 import evaluate, score
from ragx.util.tokenization import Tokenizer
from tests.evaluation.conftest import text, write_rows
from tests.evaluation.paper.conftest import MakeContest
from tests.helpers.plain_llama import plain_logits

OPTIONS = Table4Options(
    tokens="120,400,all",
    decoder_tokens=120,
    answer_tokens=5,
    summary_tokens=12,
    seeds="1,2",
    sinks=4,
    recent=50,
    streaming_stride=40,
)
ROWS: list[dict[str, Any]] = [
    {"input": text(seed, 260), "question": f"What is {word}?", "answers": [word]}
    for seed, word in enumerate(["snow", "soil"])
]
ENDS = {
    "narrativeqa": "as few words as possible.\n\nQuestion: Why?\n\nAnswer:",
    "qasper": '"unanswerable".\n\nQuestion: Why?\n\nAnswer:',
    "quality": "the right one.\n\nQuestion and possible answers: Why?\n\nAnswer:",
    "musique": '"unanswerable".\n\nQuestion: Why?\n\nAnswer:',
    "govreport": "in a page.\n\nSummary:",
    "summscreen": "in a paragraph.\n\nSummary:",
    "qmsum": "one or more sentences.\n\nQuery: Why?\n\nAnswer:",
    "squality": "in a paragraph.\n\nQuestion: Why?\n\nAnswer:",
}


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "stories.jsonl", ROWS)


def raw(out: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Values by reader, tokens and example."""
    rows = map(json.loads, out.read_text().splitlines()[1:])
    return {(*row["setting"].split()[2:4], row["example"]): row["values"] for row in rows}


@pytest.mark.parametrize("task", TASKS)
def test_each_prompt_ends_in_its_request(task: str) -> None:
    request = LongInput(task, "Text", "Why?", ["x"]).request
    assert request.startswith("\n\nAbove ")
    assert request.endswith(ENDS[task])


@pytest.mark.parametrize(("in_decoder", "in_encoder"), [(50, 100), (50, None), (9, 20), (400, None), (1000, 10)])
def test_the_decoder_reads_the_end_and_the_encoder_what_precedes_it(
    tokenizer: Tokenizer, in_decoder: int, in_encoder: int | None
) -> None:
    item = LongInput("qasper", text(0, 300), "Why?", ["x"])
    whole = [*tokenizer.plain_ids([item.text])[0], *tokenizer.plain_ids([item.request])[0]]
    before, inside, request = divide(tokenizer, item, in_decoder=in_decoder, in_encoder=in_encoder)
    assert inside[0] == 1
    assert len(inside) == min(in_decoder, len(whole) + 1)
    assert [*before, *inside[1:]] == whole[-(len(before) + len(inside) - 1) :]
    left = len(whole) - len(inside) + 1
    assert len(before) == (left if in_encoder is None else min(left, in_encoder))
    assert item.request.endswith(tokenizer.decode(inside[request:]))


def test_answers_are_those_of_plain_greedy_decoding(
    contest: MakeContest, exact: Any, stories: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "raw.jsonl"
    evaluate(contest(out=out, reader="cepe,full,replug,streaming"), [f"narrativeqa={stories}"], OPTIONS)
    found = raw(out)
    items = read_inputs("narrativeqa", stories, None)
    assert len(found) == len(items) * (2 + 2 + 3)

    def decoded(logits: Any) -> str:
        answer: list[int] = []
        while len(answer) < 5 and answer[-1:] != [2]:
            answer.append(int(logits(answer).argmax()))
        return tokenizer.decode([token for token in answer if token > 2]).rstrip("�").split("\n")[0].strip()

    for item in items:
        ids = [*tokenizer.plain_ids([item.text])[0], *tokenizer.plain_ids([item.request])[0]]

        def full(answer: list[int], last: int, ids: list[int] = ids) -> torch.Tensor:
            with torch.no_grad():
                return exact(torch.tensor([[1, *ids[-last:], *answer]])).logits[0, -1]  # type: ignore[no-any-return]

        def cepe(answer: list[int], most: int | None, ids: list[int] = ids) -> torch.Tensor:
            before, inside = ids[:-114], [1, *ids[-114:], *answer]
            before = before if most is None else before[-most:]
            parts = [before[at : at + 256] for at in range(0, len(before), 256)]
            passages = torch.tensor([[part + [0] * (256 - len(part)) for part in parts]])
            mask = torch.tensor([[[1] * len(part) + [0] * (256 - len(part)) for part in parts]])
            with torch.no_grad():
                output = exact(torch.tensor([inside]), encoder_input_ids=passages, encoder_attention_mask=mask)
            return output.logits[0, -1]  # type: ignore[no-any-return]

        assert len(ids) > 400
        for tokens in (120, 400):
            expected = decoded(lambda answer, last=tokens - 6: full(answer, last))
            assert found["full", str(tokens), item.key]["answer"] == expected
        for name, most in (("400", 280), ("None", None)):
            assert found["cepe", name, item.key]["answer"] == decoded(lambda answer, most=most: cepe(answer, most))
        assert found["cepe", "400", item.key]["read_tokens"] == 400 - 5
        assert found["streaming", "None", item.key]["read_tokens"] == len(ids) + 1


def test_streaming_keeps_sinks_and_recent_tokens(
    contest: MakeContest, exact: Any, stories: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "raw.jsonl"
    options = OPTIONS.model_copy(update={"tokens": "200"})
    evaluate(contest(out=out, reader="streaming", limit=1), [f"qasper={stories}"], options)
    (item,) = read_inputs("qasper", stories, 1)
    ids = [*tokenizer.plain_ids([item.text])[0], *tokenizer.plain_ids([item.request])[0]]
    prompt = [1, *ids[-194:]]

    def kept(length: int) -> list[int] | None:
        return [0, 1, 2, 3, *range(length - 50, length)] if length == 94 else None

    answer: list[int] = []
    while len(answer) < 5 and answer[-1:] != [2]:
        answer.append(int(plain_logits(exact, prompt + answer, kept)[-1].argmax()))
    expected = tokenizer.decode([token for token in answer if token > 2]).rstrip("�").split("\n")[0].strip()
    assert raw(out)["streaming", "200", item.key]["answer"] == expected


def test_reports_are_sampled_with_each_seed_and_averaged(contest: MakeContest, stories: Path, tmp_path: Path) -> None:
    pytest.importorskip("rouge_score")
    out = tmp_path / "raw.jsonl"
    sources, options = [f"govreport={stories}"], OPTIONS.model_copy(update={"tokens": "120"})
    table = evaluate(contest(out=out, reader="full"), sources, options)
    values = raw(out)
    assert len(values) == 2 * 2, "two texts, two seeds"
    assert len({each["answer"] for each in values.values()}) > 2
    items = read_inputs("govreport", stories, None)
    mean = sum(score(item, values["full", "120", f"{item.key}:{seed}"]["answer"]) for item in items for seed in (1, 2))
    cell: Any = table.rows[0][4]
    assert cell.value == pytest.approx(100 * mean / 4)
    again = evaluate(contest(reader="full"), sources, options)
    assert again.rows[0][4] == cell, "seeds make it repeatable"


def test_a_sampled_answer_does_not_end_early() -> None:
    constraint = AtLeast(2, [3, 99])
    seen = []
    for token in (0, 1, 3):
        seen.append(np.flatnonzero(constraint.allowed(5)).tolist())
        constraint.accept(token)
    assert seen == [[0, 1, 2, 4], [0, 1, 2, 4], [0, 1, 2, 3, 4]]


def test_rows_of_scrolls(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "input": "Who?\n\nOnce upon\n\na time.", "output": "He"},
        {"id": "2", "input": "When?\n\nOnce.", "output": "Then"},
        {"id": "1", "input": "Who?\n\nOnce upon\n\na time.", "output": "She"},
    ]
    first, second = read_inputs("narrativeqa", write_rows(tmp_path / "qa.jsonl", rows), None)
    assert (first.question, first.text, first.answers) == ("Who?", "Once upon\n\na time.", ["He", "She"])
    assert (second.question, second.answers) == ("When?", ["Then"])
    row = {"id": "1", "input": "Who?\n\n (A) He\n (B) She\n\n (C) It\n (D) Nobody\n\n\nOnce\n\nmore.", "output": "She"}
    (choice,) = read_inputs("quality", write_rows(tmp_path / "quality.jsonl", [row]), None)
    assert choice.question.endswith("(D) Nobody")
    assert choice.text.strip() == "Once\n\nmore."
    assert score(choice, "(B)") == 1
    (report,) = read_inputs("govreport", write_rows(tmp_path / "gov.jsonl", rows[1:2]), None)
    assert report.text == "When?\n\nOnce."


def test_meetings_of_qmsum(tmp_path: Path) -> None:
    turns = [{"speaker": "Ann", "content": "Hello ."}, {"speaker": "Bo", "content": "Hi ."}]
    one, other = {"query": "Summarise.", "answer": "A talk."}, {"query": "Who came?", "answer": "Ann and Bo."}
    text = "Ann: Hello .\nBo: Hi ."
    released = {"meeting_transcripts": turns, "general_query_list": [one], "specific_query_list": [other]}
    for row in (released, {"text": text, "queries": [one, other]}):
        first, second = read_inputs("qmsum", write_rows(tmp_path / "meetings.jsonl", [row, row]), 2)
        assert (first.text, first.question, first.answers) == (text, "Summarise.", ["A talk."])
        assert (second.question, second.answers) == ("Who came?", ["Ann and Bo."])
    for row in ({"meeting_transcripts": turns}, {"queries": [one]}, {"text": text, "queries": [{"query": "Who?"}]}):
        with pytest.raises(CorpusError, match="is not an"):
            read_inputs("qmsum", write_rows(tmp_path / "bad.jsonl", [row]), None)


def test_other_rows(tmp_path: Path) -> None:
    rows = [
        {"ctxs": [{"title": "T", "text": "t"}, {"text": "u"}], "question": "Who?", "answer": "x"},
        {"input": "Text", "question": "When?", "answers": ["y", "z"]},
    ]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    first, second = read_inputs("musique", path, None)
    assert first.text == "Document: T\nt\n\nDocument:\nu"
    assert second.answers == ["y", "z"]
    assert len(read_inputs("musique", path, 1)) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"input": "x", "answers": ["y"]},
        {"input": "x", "question": "?"},
        {"question": "?", "answers": ["y"]},
        {"input": 1, "question": "?", "answers": ["y"]},
        {"input": "no question", "output": "y"},
        {"input": "x", "question": "?", "answers": []},
    ],
)
def test_unusable_rows(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=r"bad\.jsonl:1"):
        read_inputs("qasper", write_rows(tmp_path / "bad.jsonl", [row]), None)


@pytest.mark.parametrize(
    ("sources", "changes", "message"),
    [
        (["other={}"], {}, "TASK=FILE"),
        (["{}"], {}, "TASK=FILE"),
        (["qasper={}", "qasper={}"], {}, "once"),
        (["qasper={}"], {"tokens": "5"}, "must exceed the 5"),
        (["squality={}"], {"decoder_tokens": 12}, "must exceed the 12"),
        (["qasper={}"], {"tokens": "many"}, "whole numbers"),
    ],
)
def test_mistakes(
    contest: MakeContest, stories: Path, sources: list[str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(contest(), [source.format(stories) for source in sources], OPTIONS.model_copy(update=changes))
