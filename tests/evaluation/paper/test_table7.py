"""Table 7: prompts, and answers that equal those of plain greedy decoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.paper.open_domain import Document, Item, demonstrations, encoder_row, prompt_ids, read_items
from ragx.evaluation.paper.options import Table7Options
from ragx.evaluation.paper.table7 import evaluate
from ragx.retrieval import Retriever
from ragx.util.tokenization import Tokenizer
from tests.evaluation.conftest import text, write_rows
from tests.evaluation.paper.conftest import MakeContest
from tests.helpers.plain_llama import plain_logits

OPTIONS = Table7Options(k="1,3", prompt_documents=2, document_tokens=20, max_new_tokens=6, sinks=4, recent=60)
ROWS: list[dict[str, Any]] = [
    {
        "question": f"What is {word}?",
        "answers": [word, f"the {word}"],
        "ctxs": [{"title": f"T{n}", "text": text(10 * seed + n, 8), "score": f"{1.5 - n}"} for n in range(4)],
    }
    for seed, word in enumerate(["snow", "soil", "light"])
]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("questions") / "nq.jsonl", ROWS)


def parts(row: dict[str, Any], path: Path) -> tuple[str, str, list[str]]:
    """Demonstrations, question and documents as text, written out once more."""
    items = read_items(path)
    item = next(each for each in items if each.text == row["question"])
    examples = demonstrations(item, items, 2, 0)
    assert len({each.text for each in (*examples, item)}) == 3
    shots = ""
    for each in examples:
        best = next(other for other in ROWS if other["question"] == each.text)["ctxs"][0]
        shots += f"Document: {best['title']}\n{best['text']}\n\nQuestion: {each.text}\nAnswer: {each.answers[0]}\n\n"
    documents = [f"Document: {each['title']}\n{each['text']}\n\n" for each in row["ctxs"]]
    return shots, f"Question: {row['question']}\nAnswer:", documents


def greedy(model: Any, prompts: list[list[int]], weights: list[float], tokens: int, **passages: Any) -> list[int]:
    """Greedy decoding without a cache; several prompts are mixed (REPLUG)."""
    answer: list[int] = []
    for _ in range(tokens):
        with torch.no_grad():
            rows = [
                model(torch.tensor([[*each, *answer]]), **passages).logits[0, -1].softmax(dim=0) for each in prompts
            ]
        mixed = sum(weight * row for weight, row in zip(weights, rows, strict=True))
        answer.append(int(mixed.argmax()))  # type: ignore[union-attr]
        if answer[-1] == 2:  # the end of a turn
            break
    return answer


def said(tokenizer: Tokenizer, answer: list[int]) -> str:
    """The first line of an answer, without an incomplete character at its end."""
    text = tokenizer.decode([token for token in answer if token > 2])
    return text.rstrip("\ufffd").split("\n")[0].strip()


def test_answers_are_those_of_plain_greedy_decoding(
    contest: MakeContest, exact: Any, questions: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "raw.jsonl"
    evaluate(contest(out=out), [(questions, questions)], OPTIONS)
    found = {}
    for line in out.read_text().splitlines()[1:]:
        row = json.loads(line)
        reader, _, k = row["setting"].split(maxsplit=2)[2].split()[:3]
        found[row["values"]["question"], reader, int(k)] = row["values"]["answer"]
    assert len(found) == 3 * 4 * 2
    ids = lambda content: [1, *tokenizer.plain_ids([content])[0]]  # noqa: E731
    for row in ROWS:
        shots, question, documents = parts(row, questions)
        for k in (1, 3):
            expected = {"full": greedy(exact, [ids(shots + "".join(documents[:k]) + question)], [1.0], 6)}
            scores = np.exp([float(each["score"]) for each in row["ctxs"][:k]])
            prompts = [ids(shots + document + question) for document in documents[:k]]
            expected["replug"] = greedy(exact, prompts, (scores / scores.sum()).tolist(), 6)
            encoded = [tokenizer.plain_ids([each.rstrip("\n")])[0][-20:] for each in documents[2:k]]
            context = {"encoder_input_ids": torch.tensor([encoded])} if encoded else {}
            expected["cepe"] = greedy(
                exact, [ids(shots + "".join(documents[: min(k, 2)]) + question)], [1.0], 6, **context
            )
            for reader, tokens in expected.items():
                assert found[row["question"], reader, k] == said(tokenizer, tokens), (reader, k)


def test_streaming_answers_are_those_of_a_plain_cache(
    contest: MakeContest, exact: Any, questions: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    options = OPTIONS.model_copy(update={"k": "3", "streaming_stride": 30})
    out = tmp_path / "raw.jsonl"
    evaluate(contest(out=out, reader="streaming", limit=1), [(questions, questions)], options)
    shots, question, documents = parts(ROWS[0], questions)
    prompt = [1, *tokenizer.plain_ids([shots + "".join(documents[:3]) + question])[0]]
    assert len(prompt) > 94

    def kept(length: int) -> list[int] | None:
        return [0, 1, 2, 3, *range(length - 60, length)] if length == 94 else None

    answer: list[int] = []
    while len(answer) < 6 and answer[-1:] != [2]:
        answer.append(int(plain_logits(exact, prompt + answer, kept)[-1].argmax()))
    assert json.loads(out.read_text().splitlines()[1])["values"]["answer"] == said(tokenizer, answer)


def test_exact_match_is_the_best_over_answers(contest: MakeContest, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw.jsonl"
    evaluate(contest(out=out, reader="full"), [(questions, questions)], OPTIONS)
    answers = {
        (values := json.loads(line)["values"])["question"]: values["answer"]
        for line in out.read_text().splitlines()[1:]
        if "full k 3" in line
    }
    right = [{**row, "answers": ["other", f"The {answers[row['question']]}!"]} for row in ROWS]
    right[0] = ROWS[0]
    path = write_rows(tmp_path / "right.jsonl", right)
    table = evaluate(contest(reader="full"), [(path, questions)], OPTIONS.model_copy(update={"k": "3"}))
    assert table.rows[0][4].value == pytest.approx(200 / 3)  # type: ignore[union-attr]
    assert list(table.columns)[4] == "right"


def test_documents_are_cut_before_anything_else(tokenizer: Tokenizer) -> None:
    documents = [Document(f"T{n}", text(n, 30)) for n in range(5)]
    item, example = Item("x", "Why snow?", ["sun"], documents), Item("x", "Why soil?", ["dark"], documents[:1])
    whole = prompt_ids(tokenizer, item, [example], documents, None)
    assert prompt_ids(tokenizer, item, [example], documents, len(whole)) == whole
    alone = prompt_ids(tokenizer, item, [example], [], None)
    for room in (len(whole) - 1, len(alone) + 40, len(alone)):
        ids = prompt_ids(tokenizer, item, [example], documents, room)
        words = tokenizer.decode(ids[1:])
        assert room - 8 <= len(ids) <= room
        assert words.startswith("Document: T0\n")
        assert words.endswith("\n\nQuestion: Why snow?\nAnswer:")
        assert "Question: Why soil?\nAnswer: dark\n\n" in words
    short = prompt_ids(tokenizer, item, [example], documents, 20)
    assert len(short) == 20
    assert short[0] == 1
    assert tokenizer.decode(short[1:]).endswith("snow?\nAnswer:")


def test_the_encoder_reads_the_end_of_a_long_document(tokenizer: Tokenizer) -> None:
    document = Document("T", text(0, 50))
    whole = encoder_row(tokenizer, document, 1000)
    assert tokenizer.decode(whole) == f"Document: T\n{document.text}"
    assert encoder_row(tokenizer, document, 9) == whole[-9:]


def test_the_authors_files_are_read_as_they_are(tmp_path: Path) -> None:
    rows = [
        {"question": "a?", "answer": "x", "ctxs": [{"title": "T", "text": "t", "score": "1.25"}]},
        {"question": "b?", "answer": ["y", "z"], "ctxs": [{"text": "u"}]},
        {"question": "c?", "answers": ["w"]},
    ]
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=1))
    lines = write_rows(tmp_path / "lines.jsonl", rows)
    for path in (tmp_path / "list.json", lines):
        items = read_items(path)
        assert [item.answers for item in items] == [["x"], ["y", "z"], ["w"]]
        assert items[0].documents == [Document("T", "t", 1.25)]
        assert items[1].documents[0].block == "Document:\nu\n\n"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"question": "a?"}', '[{"question": 1, "answer": "x"}]', "[1]", "[", '{"a"']
)
def test_unusable_questions(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(CorpusError, match=r"bad\.json"):
        read_items(path)


def test_documents_come_from_an_index(contest: MakeContest, retriever: Retriever, tmp_path: Path) -> None:
    bare = write_rows(tmp_path / "bare.jsonl", [{key: row[key] for key in ("question", "answers")} for row in ROWS])
    with pytest.raises(ConfigError, match="give an --index"):
        evaluate(contest(), [(bare, bare)], OPTIONS)
    table = evaluate(contest(), [(bare, bare)], OPTIONS, retriever, "bm25")
    assert [row[1:4] for row in table.rows][:4] == [["cepe", 1, 1], ["cepe", 3, 2], ["full", 1, 1], ["full", 3, 3]]
