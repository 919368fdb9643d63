"""`ragx ask --document`, `--examples` and `--no-index`, and `ragx summarise`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.chat_page import SENTENCE
from tests.helpers.command import QUESTION, RunCommand
from tests.helpers.tiny import save_reciting_decoder

READERS = ["cepe", "full", "replug", "streaming"]


@pytest.fixture(scope="module")
def reciting(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reciting")
    save_reciting_decoder(tiny_decoder, folder, SENTENCE, ends=True)
    return folder


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A text of several passages; the first one holds what the decoder recites."""
    path = tmp_path / "book.md"
    path.write_text(f"# Book\n\n{SENTENCE.strip()}\n\n" + "Dark soil absorbs the light of the sun.\n\n" * 30)
    return path


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    path = tmp_path / "examples.jsonl"
    rows = [{"question": f"Colour of {thing}?", "answer": "white"} for thing in ("snow", "salt", "milk")]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_an_answer_from_a_whole_document(ragx: RunCommand, book: Path, reciting: Path) -> None:
    run = ragx("ask", "--document", book, QUESTION, "--model", reciting)
    assert run.code == 0, run.err
    answer, sources = run.out.split("\n\nSources:\n")
    assert answer == f"{SENTENCE.strip()} [1]"
    assert f"{book}, characters 8-" in sources
    assert f"“{SENTENCE.strip()}”" in " ".join(sources.split())


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_reads_documents(ragx: RunCommand, book: Path, tiny_decoder: Path, reader: str) -> None:
    run = ragx(
        *("ask", "--document", book, QUESTION, "--model", tiny_decoder, "--reader", reader),
        *("--max-new-tokens", 3, "--json"),
    )
    assert run.code == 0, run.err
    hits = json.loads(run.out)["hits"]
    assert [hit["position"] for hit in hits] == list(range(len(hits)))[::-1]
    text = book.read_text()
    assert all(hit["text"] in text for hit in hits)


def test_several_documents_are_read_together(ragx: RunCommand, book: Path, notes: Path, tiny_decoder: Path) -> None:
    files = ("--document", book, "--document", notes / "snow.md")
    run = ragx("ask", *files, QUESTION, "--model", tiny_decoder, "--max-new-tokens", 2, "--json")
    assert run.code == 0, run.err
    documents = [hit["document"] for hit in json.loads(run.out)["hits"]]
    assert documents[0] == "snow.md"
    assert set(documents[1:]) == {"book.md"}


@pytest.mark.parametrize("command", ["summarise", "summarize"])
def test_a_summary_of_documents(ragx: RunCommand, book: Path, notes: Path, reciting: Path, command: str) -> None:
    run = ragx(command, book, notes / "soil.txt", "--model", reciting)
    assert run.code == 0, run.err
    assert run.out.startswith(f"{SENTENCE.strip()} [1]\n\nSources:\n[1] Book")


def test_examples_alone(ragx: RunCommand, examples: Path, reciting: Path) -> None:
    run = ragx("ask", "--no-index", "--examples", examples, "Colour of soil?", "--model", reciting)
    assert run.code == 0, run.err
    assert run.out == f"{SENTENCE.strip()}\n"
    assert "index" not in run.err


def test_examples_beside_an_index(ragx: RunCommand, index: Path, examples: Path, tiny_decoder: Path) -> None:
    command = ("ask", QUESTION, "--index", index, "--model", tiny_decoder, "--max-new-tokens", 20, "--json")
    with_examples, without = (ragx(*command, *more) for more in (("--examples", examples), ()))
    assert with_examples.code == 0, with_examples.err
    read, alone = (json.loads(run.out) for run in (with_examples, without))
    assert read["hits"] == alone["hits"] != []
    assert read["answer"] != alone["answer"]


def test_what_is_left_out_of_documents_is_said(ragx: RunCommand, notes: Path, tmp_path: Path, reciting: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "snow.txt").write_text("Snow.")
    run = ragx("ask", "--document", tmp_path, QUESTION, "--model", reciting)
    assert run.code == 3
    assert f"1 left out, first {tmp_path}/photo.png: is of an unsupported format" in run.err
    assert run.out.startswith(SENTENCE.strip())


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--document", "gone.txt"], "cannot read gone.txt: No such file"),
        (["--document", "{book}", "--index", "notes"], "document: no index is searched"),
        (["--document", "{book}", "-k", "3"], "document: no index is searched"),
        (["--no-index", "--where", "year>2000"], "no_index: no index is searched"),
        (["--examples", "gone.jsonl"], "gone.jsonl cannot be read"),
    ],
)
def test_mistakes_are_reported_before_models_load(
    ragx: RunCommand, book: Path, options: list[str], fragment: str
) -> None:
    run = ragx("ask", QUESTION, *(option.format(book=book) for option in options), "--model", "no-such-model")
    assert run.code == 2
    assert fragment in run.err
