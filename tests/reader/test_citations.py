"""Citations: verbatim spans of retrieved passages, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.reader.citations import Marker, cite
from ragx.types import Answer, Hit, Passage, Timings

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


@pytest.mark.parametrize(
    ("answer", "passage", "expected"),
    [
        (
            "Der Schnee reflektiert etwa 90 Prozent des Sonnenlichts.",
            "Wälder sind dunkel. Frischer Schnee reflektiert bis zu 90 Prozent des Sonnenlichts. Eis ist glatt.",
            "Frischer Schnee reflektiert bis zu 90 Prozent des Sonnenlichts.",
        ),
        (
            "Свежий снег отражает 90 процентов солнечного света.",
            "Леса тёмные. Свежий снег отражает до 90 процентов солнечного света. Лёд скользкий.",
            "Свежий снег отражает до 90 процентов солнечного света.",
        ),
        (
            "新鲜的雪能反射约90%的阳光。",
            "森林吸收大部分光线。新鲜的雪最多能反射90%的阳光。冰很滑。",
            "新鲜的雪最多能反射90%的阳光。",
        ),
        (
            "新雪は太陽光の約90%を反射します。",
            "森林は光を吸収する。新雪は太陽光の最大90%を反射する。氷は滑りやすい。",
            "新雪は太陽光の最大90%を反射する。",
        ),
        (
            "갓 내린 눈은 햇빛의 약 90%를 반사합니다.",
            "숲은 빛을 흡수한다. 갓 내린 눈은 햇빛의 최대 90%를 반사한다. 얼음은 미끄럽다.",
            "갓 내린 눈은 햇빛의 최대 90%를 반사한다.",
        ),
        (
            "หิมะใหม่สะท้อนแสงอาทิตย์ได้ประมาณร้อยละเก้าสิบ",
            "ป่าไม้ดูดกลืนแสงส่วนใหญ่ หิมะใหม่สะท้อนแสงอาทิตย์ได้ถึงร้อยละเก้าสิบ น้ำแข็งนั้นลื่นมากในฤดูหนาว",
            "หิมะใหม่สะท้อนแสงอาทิตย์ได้ถึงร้อยละเก้าสิบ",
        ),
        (
            "يعكس الثلج الجديد نحو 90 بالمئة من ضوء الشمس.",
            "هل الغابات مظلمة؟ يعكس الثلج الجديد ما يصل إلى 90 بالمئة من ضوء الشمس. الجليد زلق.",
            "يعكس الثلج الجديد ما يصل إلى 90 بالمئة من ضوء الشمس.",
        ),
        (
            "ताज़ी बर्फ़ सूर्य के प्रकाश का लगभग 90 प्रतिशत परावर्तित करती है।",
            "जंगल अँधेरे होते हैं। ताज़ी बर्फ़ सूर्य के प्रकाश का 90 प्रतिशत तक परावर्तित करती है। बर्फ़ फिसलन भरी है।",
            "ताज़ी बर्फ़ सूर्य के प्रकाश का 90 प्रतिशत तक परावर्तित करती है।",
        ),
    ],
    ids=["German", "Russian", "Chinese", "Japanese", "Korean", "Thai", "Arabic", "Hindi"],
)
def test_citations_in_other_languages(answer: str, passage: str, expected: str) -> None:
    (citation,) = cite(answer, "?", [hit("Bananas are yellow.", name="b"), hit(passage)])
    assert citation.text == expected


def test_clauses_are_cited_where_the_script_has_its_own_marks() -> None:
    citations = cite(
        "新雪反射九成阳光，企鹅因此每天早晨都非常高兴而且还会唱歌跳舞，森林吸收光线。",
        "?",
        [hit("新雪反射九成阳光。", name="a"), hit("森林吸收光线。", name="b")],
    )
    assert [citation.passage_id for citation in citations] == ["a#0", "b#0"]


def test_nothing_to_cite() -> None:
    assert cite("", "Why?", [hit(DOCUMENT)]) == []
    assert cite("Some answer.", "Why?", []) == []


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


@pytest.mark.parametrize(
    ("answer", "passage"),
    [
        ("Fresh snow reflects 80 percent of sunlight.", DOCUMENT),
        ("In Greenland, fresh snow of Nuuk reflects up to 90 percent of sunlight.", DOCUMENT),
        ("Forests do not absorb most of it.", DOCUMENT),
    ],
    ids=["number", "name", "negation"],
)
def test_a_span_that_lacks_a_fact_of_the_answer_does_not_support_it(answer: str, passage: str) -> None:
    assert cite(answer, "Why?", [hit(passage)]) == []


def test_numbers_of_the_question_and_names_around_the_span_are_known() -> None:
    passage = hit("Nuuk in 2020. Fresh snow reflects most of the sunlight.")
    answer = "In 2020 the fresh snow of Nuuk reflects most sunlight."
    assert cite(answer, "What did fresh snow reflect in 2020?", [passage])
    assert not cite(answer.replace("2020", "2021"), "What did fresh snow reflect in 2021?", [passage])


def marked(*pieces: str) -> str:
    marker = Marker("How much?", [hit(DOCUMENT)])
    return "".join(map(marker.add, pieces)) + marker.end()


def test_a_mark_stands_before_what_opens_the_next_sentence() -> None:
    assert marked("Forests absorb", " most of it.", ' "', "Fresh snow", ' reflects sunlight."') == (
        'Forests absorb most of it. [1] "Fresh snow reflects sunlight." [2]'
    )


@pytest.mark.parametrize(
    "answer",
    [
        "| Forests | absorb most |\n|---|---|\n| a | b |",
        "```\nForests absorb most of it.\nFresh snow reflects sunlight.\n```",
    ],
    ids=["table", "code"],
)
def test_tables_and_code_have_citations_without_marks(answer: str) -> None:
    assert marked(answer) == answer
    assert cite(answer, "How much?", [hit(DOCUMENT)])


def test_the_number_of_a_list_item_is_no_fact() -> None:
    answer = "1. Fresh snow reflects up to 90 percent of sunlight.\n2. Forests absorb most of it."
    assert len(cite(answer, "How much?", [hit(DOCUMENT)])) == 2


def test_marks_stand_where_supported_sentences_end() -> None:
    answer = "Fresh snow reflects up to 90 percent of sunlight. Bananas are yellow. Forests absorb most of it!"
    marker = Marker("How much?", [hit(DOCUMENT)])
    shown = marker.add(answer) + marker.end()
    assert shown == answer.replace("sunlight.", "sunlight. [1]").replace("it!", "it! [2]")


PIECES = [
    "Fresh snow",
    " reflects",
    " up to",
    " 90",
    " percent",
    ".",
    " It",
    " e.g",
    "\n- ",
    ", forests absorb",
    ' "',
    "`",
]


@given(st.lists(st.sampled_from(PIECES)))
def test_marks_in_a_growing_answer_stand_where_the_citations_say(pieces: list[str]) -> None:
    marker = Marker("How much?", [hit(DOCUMENT)])
    shown = "".join(map(marker.add, pieces)) + marker.end()
    timings = Timings(retrieve=0, encode=0, first_token=0, total=0, tokens_per_second=0)
    answer = Answer("".join(pieces), marker.citations, [], timings)
    assert answer.marked_text == shown
