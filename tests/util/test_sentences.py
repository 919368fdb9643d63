"""Sentences in every script, and on text made to break the segmenter."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ragx.util.sentences import sentence_spans


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["Dr. Smith paid $3.50 in Washington, D.C. on Jan. 5.", 'He asked, "Why so much?"', "Nobody knew."],
        ["Prof. Müller war um 8 Uhr z. B. in Köln.", "Das kostet 3,50 Euro!", "Wer war Ludwig XIV.?"],
        ["¿Por qué tan tarde?", "¡No lo sé!", "Llegó a las 8."],
        ["Почему?", "Никто не знал!", "Население — 3,5 миллиона."],
        ["القاهرة هي عاصمة مصر.", "كم عدد سكانها؟", "لا أحد يعرف!"],
        ["दिल्ली भारत की राजधानी है।", "इसकी जनसंख्या कितनी है?"],
        ["서울은 대한민국의 수도이다.", "왜 그렇게 많은가?"],
        ["ရန်ကုန်သည် မြို့ကြီး ဖြစ်သည်။", "နေပြည်တော်သည် မြို့တော် ဖြစ်သည်။"],
        ["กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", "ตั้งอยู่บนแม่น้ำเจ้าพระยา มีประชากร 8 ล้านคน"],
    ],
    ids=["English", "German", "Spanish", "Russian", "Arabic", "Hindi", "Korean", "Burmese", "Thai"],
)
def test_sentences_of_languages_with_spaces(expected: list[str]) -> None:
    assert sentences(" ".join(expected)) == expected


@pytest.mark.parametrize(
    "expected",
    [
        ["北京是中国的首都。", "它有多少人口？", "他说：“我不知道！”", "人口约为2,189.3万。"],
        ["東京は日本の首都です。", "人口は約1,400万人です。", "はい！"],
    ],
    ids=["Chinese", "Japanese"],
)
def test_sentences_of_languages_without_spaces(expected: list[str]) -> None:
    assert sentences("".join(expected)) == expected


def test_sentences_end_at_marks_blank_lines_list_items_and_table_rows_but_not_at_line_ends() -> None:
    text = 'Snow is\nwhite. "So it is." Yes?\n\nA heading\n\n- one\n- two, at 3.5 metres\n\n| a | b. |\n| c | d |'
    assert sentences(text) == [
        "Snow is\nwhite.",
        '"So it is."',
        "Yes?",
        "A heading",
        "- one",
        "- two, at 3.5 metres",
        "| a | b. |",
        "| c | d |",
    ]


def test_a_long_text_is_segmented_as_its_parts_are() -> None:
    parts = [f"Sentence {number} is {'very ' * (number % 90)}long." for number in range(500)]
    assert sentences(" ".join(parts)) == parts


PIECES = [*'aZ1.!?。「」“"() \n|', "- ", "1. ", "Dr. ", "น" * 13]
ODD = "\xa0\x85\u2028\u3000\r\x00\x1c\ud800\udfff😀\u0301ßİ\U0001f1e6"


@settings(deadline=None)
@given(st.lists(st.sampled_from([*PIECES, *ODD]), max_size=60).map("".join) | st.text())
@example("Z.\xa0b")  # on which sentencex panics
@example("")
def test_spans_hold_every_visible_character_in_order(text: str) -> None:
    spans = list(sentence_spans(text))
    assert all(start < end and text[start:end] == text[start:end].strip() for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "piece", ["a", "word ", ". ", "“", "「", '"', "( ", "北京是中国的首都。", "1. x\n", "a\n\n", "\n", "น"]
)
def test_a_megabyte_of_anything_takes_seconds(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    assert sum(end - start for start, end in sentence_spans(text)) >= len("".join(text.split())) // 2
    assert time.process_time() - start < 10
