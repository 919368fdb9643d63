"""Lexical search finds the answering sentence in languages with and without spaces between words."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from benchmarks.answers import ANSWERS
from ragx.config import IndexSettings
from ragx.index import Index, build_index, read_manifest, update_index
from ragx.retrieval import Retriever
from tests.helpers.toy_embedders import WordEmbedder, passage, passages


@pytest.mark.parametrize("language", ANSWERS)
def test_every_question_finds_its_sentence(tmp_path: Path, language: str) -> None:
    answers = ANSWERS[language]
    sentences = [sentence for each in ANSWERS.values() for sentence in each.values()]
    setting = language if language in ("german", "arabic") else "english"
    build_index(passages(sentences), tmp_path, WordEmbedder(), IndexSettings(language=setting), quiet=True)
    retriever = Retriever(Index.open(tmp_path))
    first = {question: retriever.search(question, 1, "bm25") for question in answers}
    missed = [question for question, hits in first.items() if not hits or hits[0].passage.text != answers[question]]
    assert missed == []


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("german", "Universität", "Universitäten"),
        ("french", "les chevaux", "cheval"),
        ("spanish", "organización", "organizaciones"),
        ("russian", "книга", "книгами"),
        ("none", "running", "RUNNING"),
    ],
)
def test_words_match_by_the_stemmer_of_the_language(tmp_path: Path, language: str, text: str, question: str) -> None:
    settings = IndexSettings.model_validate({"language": language})
    build_index(passages(["x", text]), tmp_path, WordEmbedder(), settings, quiet=True)
    update_index(tmp_path, WordEmbedder(), add=[passage(2, text)], quiet=True)
    assert read_manifest(tmp_path).settings.language == language
    hits = Retriever(Index.open(tmp_path)).search(question, 3, "bm25")
    assert [hit.passage.id for hit in hits] == ["doc1#0", "doc2#0"]


def test_without_a_language_words_match_literally(tmp_path: Path) -> None:
    build_index(passages(["the runs"]), tmp_path, WordEmbedder(), IndexSettings(language="none"), quiet=True)
    retriever = Retriever(Index.open(tmp_path))
    assert [len(retriever.search(question, 1, "bm25")) for question in ("the", "runs", "run")] == [1, 1, 0]


def test_a_language_without_a_stemmer_is_refused() -> None:
    with pytest.raises(ValidationError, match="language"):
        IndexSettings.model_validate({"language": "klingon"})


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("german", "Die Wert\u00adpapier\u00adabteilung schließt um vier.", "Wertpapierabteilung"),
        ("english", "The o\ufb03cial \ufb01ne", "official fine"),
        ("english", "room \uff11\uff12\uff13 annex", "123"),
        ("english", "na\u00efve visitors", "naive"),
        ("english", "naive visitors", "nai\u0308ve"),
        ("greek", "Η Αθήνα είναι πόλη.", "ΑΘΗΝΑ"),
        ("greek", "Ἡ Ἀθῆνα", "αθηνα"),
        ("arabic", "كَتَبَ الوَلَدُ", "كتب الولد"),
        ("arabic", "كـتـب", "كتب"),
        ("none", "שָׁלוֹם", "שלום"),
        ("french", "l'élève déçu", "eleve decu"),
    ],
)
def test_the_way_a_word_is_written_does_not_matter(tmp_path: Path, language: str, text: str, question: str) -> None:
    settings = IndexSettings.model_validate({"language": language})
    build_index(passages(["x", text]), tmp_path, WordEmbedder(), settings, quiet=True)
    assert [hit.passage.id for hit in Retriever(Index.open(tmp_path)).search(question, 3, "bm25")] == ["doc1#0"]
