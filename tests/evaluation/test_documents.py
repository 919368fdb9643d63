"""Excerpts do not overlap, are spread evenly, and are the documents' own tokens."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.documents import chunks, read_texts, sample_excerpts
from ragx.reader.cepe import CepeReader


@settings(max_examples=20, deadline=None)
@given(st.integers(50, 1500), st.integers(1, 5))
def test_excerpts(reader: CepeReader, documents: Path, length: int, each: int) -> None:
    excerpts, sample = sample_excerpts(documents, reader.tokenizer, length=length, each=each, limit=None)
    ids = [reader.tokenizer.plain_ids([text])[0] for text in read_texts(documents)]
    long = [document for document in ids if len(document) >= length]
    assert sample.endswith(f"from {len(long)} documents ({len(ids) - len(long)} too short)")
    names = list(dict.fromkeys(excerpt.document for excerpt in excerpts))
    assert len(names) == len(long)
    for name, document in zip(names, long, strict=True):
        own = [excerpt for excerpt in excerpts if excerpt.document == name]
        starts = [excerpt.start for excerpt in own]
        assert len(own) == min(each, len(document) // length)
        assert all(excerpt.ids == document[excerpt.start : excerpt.start + length] for excerpt in own)
        assert all(later - start >= length for start, later in pairwise(starts))
        assert all(len(excerpt.ids) == length for excerpt in own)


def test_the_limit_counts_documents_that_are_long_enough(reader: CepeReader, documents: Path) -> None:
    assert len(sample_excerpts(documents, reader.tokenizer, length=100, each=2, limit=3)[0]) == 6


def test_no_document_is_long_enough(reader: CepeReader, documents: Path) -> None:
    with pytest.raises(CorpusError, match="none of the 4 documents"):
        sample_excerpts(documents, reader.tokenizer, length=90_000, each=1, limit=None)
    with pytest.raises(CorpusError, match="cannot read"):
        list(read_texts(Path("missing.txt")))


def test_a_recipe_names_documents(tmp_path: Path, documents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"sources: [{documents}]\n")
    assert list(read_texts(recipe)) == list(read_texts(documents))
    recipe.write_text("nonsense: 1\n")
    with pytest.raises(ConfigError, match="nonsense"):
        list(read_texts(recipe))
    assert capsys.readouterr().err == ""


def test_unreadable_documents_are_skipped_with_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"id": "a", "text": "snow"}\n{"text": "no id"}\n{\n')
    assert list(read_texts(path)) == ["snow"]
    assert capsys.readouterr().err.startswith(f"2 skipped, first {path}:2: ")


@given(st.lists(st.integers(), max_size=50), st.integers(1, 20))
def test_chunks(ids: list[int], size: int) -> None:
    pieces = chunks(ids, size)
    assert [token for piece in pieces for token in piece] == ids
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(0 < len(piece) <= size for piece in pieces)
