"""Whole documents: the last passages in the prompt, all others in the encoder."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from ragx import cepe
from ragx.config import ReaderOptions, SamplingParams
from ragx.corpus import Document
from ragx.errors import CorpusError
from ragx.reader.cepe import CepeReader
from ragx.reader.documents import document_hits, read_files
from ragx.reader.full import FullReader
from ragx.reader.prompt import build_prompt
from ragx.reader.reading import read, returned
from ragx.reader.task import DOCUMENT, SUMMARISE, SUMMARY
from ragx.types import Passage
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny import activate

SAMPLING = SamplingParams(max_new_tokens=12)
TEXT = "\n\n".join(f"Paragraph {number}. Snow reflects light, and soil absorbs it." for number in range(60))
BOOK = Document("book.txt", "Book", TEXT, "/book.txt")


@pytest.fixture(scope="module")
def reader(tiny_decoder: Path) -> CepeReader:
    model = cepe.load(str(tiny_decoder), dtype="float32", device="cpu")
    return CepeReader(activate(model, std=0.01), load_tokenizer(tiny_decoder))


def parts(text: str, size: int, document: str = "book", title: str = "Book") -> list[Passage]:
    """The text in passages of some characters, the last one first."""
    spans = [(start, min(start + size, len(text))) for start in range(0, len(text), size)]
    passages = [
        Passage(f"{document}#{n}", document, title, text[start:end], n, start, end, f"/{document}")
        for n, (start, end) in enumerate(spans)
    ]
    return passages[::-1]


def test_the_passages_are_the_document_from_its_end(reader: CepeReader) -> None:
    hits = document_hits([BOOK], reader)
    passages = [hit.passage for hit in hits][::-1]
    assert len(passages) > 3
    assert hits.notes == []
    assert [passage.position for passage in passages] == list(range(len(passages)))
    assert all(TEXT[passage.start : passage.end] == passage.text for passage in passages)
    between = [TEXT[one.end : other.start] for one, other in pairwise(passages)]
    assert not "".join(between).strip()  # nothing is left out
    texts = reader.tokenizer.plain_ids([passage.text for passage in passages])
    tokens = [[reader.tokenizer.decode([token]) for token in ids] for ids in texts]
    assert 200 < max(sum(not token.isspace() for token in each) for each in tokens) <= 257  # one more at an end


def test_the_prompt_holds_the_end_of_the_document_as_it_stands(reader: CepeReader) -> None:
    prompt = build_prompt(reader.tokenizer, "Why?", parts(TEXT[:90], 30), max_tokens=500, task=DOCUMENT)
    text = reader.tokenizer.decode(prompt.ids)
    assert f"short sentences.\n\nBook\n{TEXT[:90]}\n\nQuestion: Why?" in text
    assert prompt.passages == 3


def test_documents_are_told_apart_in_the_prompt(reader: CepeReader) -> None:
    both = [*parts("The second.", 6, "b", "B"), *parts("The first.", 6, "a", "A")]
    prompt = build_prompt(reader.tokenizer, "Why?", both, max_tokens=500, task=DOCUMENT)
    assert "\n\nA\nThe first.\n\nB\nThe second.\n\nQuestion: Why?" in reader.tokenizer.decode(prompt.ids)


def test_passages_apart_stand_on_lines_of_their_own(reader: CepeReader) -> None:
    last, first = parts("one two", 4)
    trimmed = Passage(first.id, "book", "Book", "one", 0, 0, 3, "/book")
    prompt = build_prompt(reader.tokenizer, "Why?", [last, trimmed], max_tokens=500, task=DOCUMENT)
    assert "\n\nBook\none\ntwo\n\nQuestion" in reader.tokenizer.decode(prompt.ids)


def test_a_summary_is_asked_for_after_the_text_without_another_instruction(reader: CepeReader) -> None:
    prompt = build_prompt(reader.tokenizer, SUMMARISE, parts(TEXT[:60], 30), max_tokens=500, task=SUMMARY)
    text = reader.tokenizer.decode(prompt.ids)
    assert f"user\nBook\n{TEXT[:60]}\n\n{SUMMARISE}" in text
    assert text.endswith(f"{SUMMARISE}{text.rpartition(SUMMARISE)[2]}")
    assert SUMMARISE in reader.tokenizer.decode(prompt.ids[prompt.question_start :])


def test_the_encoder_reads_what_the_prompt_does_not_hold(reader: CepeReader) -> None:
    passages = parts(TEXT[:300], 50)
    prepared = reader.prepare("Why?", passages, prompt_passages=2, sampling=SAMPLING, task=DOCUMENT)
    assert prepared.prompt.passages == prepared.first_encoded == 2
    assert prepared.context is not None
    assert prepared.context.tokens == sum(map(len, reader.encoder_ids(passages[2:])))
    full = reader.prepare("Why?", passages, prompt_passages=2, sampling=SAMPLING)
    assert full.context is not None
    assert full.context.tokens == sum(map(len, reader.encoder_ids(passages)))


def test_a_passage_beyond_the_window_ends_the_text_in_the_prompt(reader: CepeReader) -> None:
    last, middle, first = parts(TEXT[:90], 30)
    long = Passage(middle.id, "book", "Book", "light " * 700, 1, 30, 60, "/book")
    full = FullReader(reader.model, reader.tokenizer)
    prepared = full.prepare("Why?", [last, long, first], prompt_passages=0, sampling=SAMPLING, task=DOCUMENT)
    assert prepared.prompt.passages == 1
    assert first.text not in reader.tokenizer.decode(prepared.prompt.ids)
    assert prepared.notes == ["the decoder's window of 512 tokens holds 1 of the 3 passages meant for the prompt"]


def test_attention_shares_are_those_of_the_encoded_passages(reader: CepeReader) -> None:
    hits = document_hits([BOOK], reader)
    options = ReaderOptions(prompt_passages=1, attention_shares=True)
    answer = returned(read(reader, "Why?", hits, options=options, sampling=SAMPLING, task=DOCUMENT))
    assert answer.attention_shares is not None
    assert len(answer.attention_shares) == len(hits)
    assert answer.attention_shares[0] == 0
    assert min(answer.attention_shares[1:]) > 0
    assert sum(answer.attention_shares) == pytest.approx(1)


class Small(CepeReader):
    """A reader on a machine whose memory holds few tokens."""

    def encoded_limit(self) -> int:
        return 2 * 256 + 100


def test_a_document_beyond_the_memory_is_read_from_its_end(reader: CepeReader) -> None:
    every = document_hits([BOOK], reader)
    held = document_hits([BOOK], Small(reader.model, reader.tokenizer))
    assert list(held) == every[:2]
    assert held.notes == [f"memory holds 2 of the {len(every)} passages; only these, the last ones, are read"]


def test_the_memory_holds_as_many_tokens_as_encodings_fit(reader: CepeReader) -> None:
    limit = reader.encoded_limit()
    assert limit is not None
    assert 10_000 < limit < 10**12
    assert FullReader(reader.model, reader.tokenizer).encoded_limit() is None


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("gone.txt", None, "No such file"),
        ("photo.png", b"\x89PNG\r\n\x1a\n", "unsupported format"),
        ("empty.txt", b" \n", "has no text"),
        ("dots.txt", b"...", "there is no text in"),
    ],
)
def test_a_file_without_text_is_refused(name: str, content: bytes | None, fragment: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=fragment):
        read_files([tmp_path / name])


def test_what_cannot_be_read_in_a_folder_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("Snow.")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    documents, skipped = read_files([tmp_path])
    assert [document.text for document in documents] == ["Snow."]
    assert [Path(each.source).name for each in skipped] == ["photo.png"]
