"""Scores are BM25 over the whole corpus in any sharding; an update writes only its changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.errors import IndexFolderError
from ragx.index import Index, build_index, collect_garbage, compact_index, read_manifest, update_index, verify
from ragx.retrieval import Retriever
from ragx.types import Passage
from tests.helpers.bm25 import formula
from tests.helpers.toy_embedders import WordEmbedder, passage, passages

WORDS = ["snow", "albedo", "soil", "cloud", "light"]  # unchanged by stemming


def build(folder: Path, texts: list[Passage], **values: object) -> Retriever:
    build_index(texts, folder, WordEmbedder(), IndexSettings.model_validate(values), quiet=True)
    return Retriever(Index.open(folder))


def search(index: Retriever | Path, question: str, k: int = 10) -> list[tuple[str, float]]:
    retriever = Retriever(Index.open(index)) if isinstance(index, Path) else index
    return [(hit.passage.id, hit.score) for hit in retriever.search(question, k, "bm25")]


def ids(index: Retriever | Path, question: str, k: int = 10) -> list[str]:
    return [id for id, _ in search(index, question, k)]


words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


@settings(deadline=None, max_examples=25)
@given(st.lists(words, min_size=1, max_size=20), words, st.integers(1, 20), st.integers(1, 25))
def test_scores_follow_the_formula_in_any_sharding(texts: list[str], question: str, shard_size: int, k: int) -> None:
    with TemporaryDirectory() as folder:
        hits = search(build(Path(folder), passages(texts), shard_size=shard_size), question, k)
    expected = formula(texts, question)
    matching = sum(score > 0 for score in expected)
    assert len(hits) == min(k, matching)
    assert [score for _, score in hits] == pytest.approx(sorted(expected, reverse=True)[: len(hits)], rel=1e-5)
    for id, score in hits:
        assert score == pytest.approx(expected[int(id[3:-2])], rel=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6))
def test_long_passages_score_by_their_stored_length(lengths: list[int]) -> None:
    texts = [" ".join(["snow", *["soil"] * (length - 1)]) for length in lengths]
    with TemporaryDirectory() as folder:
        hits = dict(search(build(Path(folder), passages(texts)), "snow"))
    assert hits == pytest.approx({f"doc{n}#0": score for n, score in enumerate(formula(texts, "snow"))}, rel=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.lists(words, min_size=1, max_size=8), st.lists(words, min_size=1, max_size=8), words)
def test_passages_added_by_updates_score_as_in_a_single_build(first: list[str], more: list[str], question: str) -> None:
    with TemporaryDirectory() as folder:
        build(Path(folder), passages(first), shard_size=len(first))  # a full shard: no passage moves
        for number, text in enumerate(more, start=len(first)):
            update_index(Path(folder), WordEmbedder(), add=[passage(number, text)], quiet=True)
        compact_index(Path(folder), quiet=True)
        hits = dict(search(Path(folder), question, 20))
    expected = enumerate(formula(first + more, question))
    assert hits == pytest.approx({f"doc{n}#0": score for n, score in expected if score > 0}, rel=1e-5)


def test_ties_are_in_passage_order_across_segments(tmp_path: Path) -> None:
    build(tmp_path, passages(["snow"] * 300), shard_size=2)
    for number in range(300, 310):
        update_index(tmp_path, WordEmbedder(), add=passages(["snow"] * number)[-1:], quiet=True)
    assert ids(tmp_path, "snow", 4) == [f"doc{n}#0" for n in range(4)]
    assert ids(tmp_path, "snow", 305) == [f"doc{n}#0" for n in range(305)]


def test_titles_count_and_words_match_by_stem(tmp_path: Path) -> None:
    retriever = build(tmp_path, [passage(0, "A long text.", title="Reflections"), passage(1, "Nothing.")])
    assert ids(retriever, "What is reflected?") == ["doc0#0"]


@pytest.mark.parametrize("question", ["", " ", "the", "Is it the?", "?!", "zebra", "\ud800", "[SEP]", "\0", "-", "*"])
def test_a_question_without_a_known_word_has_no_hits(tmp_path: Path, question: str) -> None:
    assert search(build(tmp_path, passages(["snow reflects", "", "the"])), question) == []


@pytest.mark.parametrize(
    "question", ['"cloud snow"', "NOT snow", "-snow", "text:snow", "snow~2", "+snow +absent", "(snow", "[a TO z] snow"]
)
def test_a_question_is_not_parsed_as_a_query_language(tmp_path: Path, question: str) -> None:
    assert ids(build(tmp_path, passages(["soil", "snow"])), question) == ["doc1#0"]


def test_a_corpus_without_words_has_no_hits(tmp_path: Path) -> None:
    assert search(build(tmp_path, passages(["the", "?", "of"])), "the snow") == []


def test_very_long_words_are_accepted(tmp_path: Path) -> None:
    assert ids(build(tmp_path, passages(["x" * 100_000, "snow " + "y" * 100_000])), "snow") == ["doc1#0"]


@pytest.mark.parametrize(
    ("text", "question"), [("Brontë", "bronte"), ("café", "CAFE\u0301"), ("ＡＢＣ ﬁre", "abc fire")]
)
def test_accents_widths_and_ligatures_are_ignored(tmp_path: Path, text: str, question: str) -> None:
    retriever = build(tmp_path, passages([text, question]))
    for variant in (text, question):
        assert ids(retriever, variant) == ["doc0#0", "doc1#0"]


def files(generation: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (generation / "lexical" / "00000").iterdir()}


def test_an_update_writes_only_a_new_segment(tmp_path: Path) -> None:
    build(tmp_path, passages(["snow"] * 100), shard_size=50)
    before = files(tmp_path / "gen-0001")
    update_index(tmp_path, WordEmbedder(), add=[passage(100, "soil")], delete=["doc1#0"], quiet=True)
    after = files(tmp_path / "gen-0002")
    assert {name for name, inode in before.items() if after.get(name) != inode} == {"meta.json"}
    assert (ids(tmp_path, "soil"), len(ids(tmp_path, "snow", 200))) == (["doc100#0"], 99)
    assert set(after) == {Path(name).name for name in read_manifest(tmp_path).files if name.startswith("lexical/")}


def test_many_updates_leave_few_segments(tmp_path: Path) -> None:
    build(tmp_path, passages(["snow"]), shard_size=100)
    for number in range(1, 41):
        update_index(tmp_path, WordEmbedder(), add=[passage(number, "snow")], quiet=True)
    assert len(ids(tmp_path, "snow", 100)) == 41
    assert len([name for name in files(tmp_path / "gen-0041") if name.endswith(".idx")]) <= 16


def indexed_words(folder: Path, tmp_path: Path) -> list[str]:
    """The words in the lexical index of the only generation."""
    (generation,) = folder.glob("gen-*")
    links = tmp_path / "links"
    links.mkdir()
    for path in (generation / "lexical" / "00000").iterdir():
        (links / path.name).symlink_to(path)
    return [word for word, _ in tantivy.Index.open(str(links)).searcher().terms_with_prefix("text", "")]


@pytest.mark.parametrize("row", [0, 4])  # in a shard that is kept, and in one whose passages move
def test_collecting_garbage_removes_words_of_deleted_passages(tmp_path: Path, row: int) -> None:
    folder = tmp_path / "index"
    build(folder, passages([*["snow"] * row, "zygote", *["snow"] * (4 - row)]), shard_size=3)
    update_index(folder, WordEmbedder(), add=[passage(9, "soil")], delete=[f"doc{row}#0"], quiet=True)
    assert ids(folder, "zygote") == []
    collect_garbage(folder, quiet=True)
    assert indexed_words(folder, tmp_path) == ["snow", "soil"]
    verify(folder)


@pytest.mark.usefixtures("unread_when_opened")
def test_merging_does_not_copy_damage(tmp_path: Path) -> None:
    build(tmp_path, passages(["snow soil", "snow cloud"]), shard_size=2)
    (norms,) = (tmp_path / "gen-0001" / "lexical" / "00000").glob("*.fieldnorm")
    damaged = bytearray(norms.read_bytes())
    assert damaged[:2] == b"\2\2"  # lengths
    damaged[0] = 127
    norms.write_bytes(damaged)
    for number in range(2, 30):
        update_index(tmp_path, WordEmbedder(), add=[passage(number, "light")], quiet=True)
    assert not [*tmp_path.rglob(norms.name)]
    verify(tmp_path)
    scores = dict(search(tmp_path, "soil cloud"))
    assert scores["doc0#0"] == pytest.approx(scores["doc1#0"])
    assert scores["doc0#0"] == pytest.approx(
        max(formula(["snow soil", "snow cloud", *["light"] * 28], "soil")), rel=0.1
    )


@pytest.mark.usefixtures("unread_when_opened")
@pytest.mark.parametrize("kind", ["idx", "term", "fast", "fieldnorm", "store", "json"])
def test_a_malicious_segment_causes_an_error_but_no_crash(tmp_path: Path, kind: str) -> None:
    build(tmp_path, passages(["snow soil", "snow cloud"] * 50))
    (path,) = (tmp_path / "gen-0001" / "lexical" / "00000").glob(f"*.{kind}")
    content = path.read_bytes()
    messages = set()
    for at in range(0, len(content), max(1, len(content) // 20)):
        path.write_bytes(content[:at] + b"\xfe" * 8 + content[at + 8 :])
        try:
            search(tmp_path, "snow soil")
        except IndexFolderError as error:
            messages.add(str(error))
    assert messages
    assert all(str(tmp_path / "gen-0001" / "lexical") in message for message in messages)


def test_search_is_thread_safe(tmp_path: Path) -> None:
    retriever = build(tmp_path, passages([f"snow {n} soil" for n in range(50)]))
    questions = [f"snow {n % 50}" for n in range(400)]
    with ThreadPoolExecutor(8) as threads:
        assert [*threads.map(lambda question: ids(retriever, question, 1), questions)] == [
            [f"doc{n % 50}#0"] for n in range(400)
        ]
