"""Citations: verbatim spans of retrieved passages, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ragx.reader.citations import cite, sentence_spans
from ragx.types import Hit, Passage

DOCUMENT = "Intro. Fresh snow reflects up to 90 percent of sunlight. Forests absorb most of it."


def hit(text: str, *, name: str = "a", start: int = 0) -> Hit:
    return Hit(Passage(f"{name}#0", name, f"Title {name}", text, 0, start, start + len(text), f"{name}.txt"), 1.0)


def test_the_supporting_sentence_is_cited_with_its_place_in_the_document() -> None:
    passage = hit(DOCUMENT[7:], start=7)
    (citation,) = cite(
        "Fresh snow reflects 90 percent of the sunlight.", "How much?", [hit("Nothing here.", name="b"), passage]
    )
    assert citation.text == "Fresh snow reflects up to 90 percent of sunlight."
    assert DOCUMENT[citation.start : citation.end] == citation.text
    assert (citation.number, citation.passage_id, citation.source) == (1, "a#0", "a.txt")


def test_an_answer_without_support_is_not_cited() -> None:
    assert cite("Bananas are yellow.", "Why?", [hit(DOCUMENT)]) == []


def test_a_half_supported_sentence_is_cited_for_that_half() -> None:
    answer = "Fresh snow reflects up to 90 percent of sunlight, making penguins remarkably cheerful every morning."
    (citation,) = cite(answer, "How much?", [hit(DOCUMENT)])
    assert citation.text == "Fresh snow reflects up to 90 percent of sunlight."


def test_a_rare_word_counts_more_than_common_ones() -> None:
    common = [hit(f"One kind animal {number}.", name=f"a{number}") for number in range(9)]
    (citation,) = cite("One kind animal: quokkas.", "Who?", [*common, hit("Quokkas smile.", name="b")])
    assert citation.passage_id == "b#0"


def test_among_equal_spans_the_one_about_the_question_is_cited() -> None:
    hits = [hit("Soot has an albedo of 0.9.", name="a"), hit("Fresh snow has an albedo of 0.9.", name="b")]
    (citation,) = cite("The answer is: 0.9.", "How much does fresh snow reflect?", hits)
    assert citation.passage_id == "b#0"


def test_each_span_is_cited_once_and_numbered_from_one() -> None:
    answer = "Fresh snow reflects 90 percent. Snow reflects 90 percent of sunlight! Forests absorb most."
    citations = cite(answer, "How much?", [hit(DOCUMENT)])
    assert [citation.number for citation in citations] == [1, 2]
    assert len({citation.start for citation in citations}) == 2


def test_nothing_to_cite() -> None:
    assert cite("", "Why?", [hit(DOCUMENT)]) == []
    assert cite("Some answer.", "Why?", []) == []


def test_sentences_end_at_marks_blank_lines_and_list_items_but_not_at_line_ends() -> None:
    text = 'Snow is\nwhite. "So it is." Yes?\n\nA heading\n\n- one\n- two, at 3.5 metres'
    assert [text[start:end] for start, end in sentence_spans(text)] == [
        "Snow is\nwhite.",
        '"So it is."',
        "Yes?",
        "A heading",
        "- one",
        "- two, at 3.5 metres",
    ]


@given(st.text(alphabet="ab1 .!?\n-\"')"))
def test_sentences_cover_every_visible_character_in_order(text: str) -> None:
    spans = list(sentence_spans(text))
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    covered = "".join(text[start:end] for start, end in spans)
    assert "".join(covered.split()) == "".join(text.split())


@given(answer=st.text(max_size=60), texts=st.lists(st.text(min_size=1, max_size=80), max_size=4))
def test_a_citation_is_always_a_verbatim_span_of_a_hit(answer: str, texts: list[str]) -> None:
    hits = [hit(text, name=str(number), start=number * 7) for number, text in enumerate(texts)]
    by_id = {found.passage.id: found.passage for found in hits}
    for citation in cite(answer, "Why a?", hits):
        passage = by_id[citation.passage_id]
        assert passage.text[citation.start - passage.start : citation.end - passage.start] == citation.text
        assert 0.5 <= citation.score <= 1.0


def test_a_citation_tells_the_page_on_which_its_span_begins() -> None:
    passage = replace(hit("Snow is white.\n\fThe key hangs behind the stove.").passage, page=7)
    (citation,) = cite("The key hangs behind the stove.", "Where?", [Hit(passage, 1.0)])
    assert (citation.page, citation.text) == (8, "The key hangs behind the stove.")
