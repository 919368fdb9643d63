"""Texts in other languages than English are told from English ones, and from what has no language."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx.corpus.language import LanguageCheck, judge

TEXTS = {
    "german": "Das alte Haus am Markt hat sieben Zimmer und einen Keller, in dem der Wein lagert. Die Leute im Dorf "
    "erzählen, dass dort früher eine Schule war und dass der Lehrer im Winter selbst das Holz holte.",
    "dutch": "Het oude huis aan de markt heeft zeven kamers en een kelder waarin de wijn ligt. De mensen in het dorp "
    "vertellen dat er vroeger een school was en dat de meester in de winter zelf het hout haalde.",
    "danish": "Det gamle hus ved torvet har syv værelser og en kælder hvor vinen ligger. Folk i landsbyen fortæller at "
    "der før var en skole og at læreren om vinteren selv hentede brænde til ovnen.",
    "italian": "La vecchia casa sulla piazza ha sette stanze e una cantina dove riposa il vino. La gente del paese "
    "racconta che prima era una scuola e che il maestro andava a prendere la legna da solo.",
    "finnish": "Torin vanhassa talossa on seitsemän huonetta ja kellari jossa viini lepää. Kylän väki kertoo että "
    "siellä oli ennen koulu ja että opettaja haki talvella itse puut ja että lapset auttoivat häntä iltaisin kotona.",
    "russian": "В старом доме на площади семь комнат и погреб, где хранится вино. Люди в деревне рассказывают, что там "
    "раньше была школа и что учитель зимой сам приносил дрова.",
    "chinese": "广场上的老房子有七个房间和一个酒窖。村里的人说那里以前是一所学校，冬天老师自己去拿柴火。" * 3,
    "hindi": "चौक के पुराने घर में सात कमरे और एक तहखाना है जहाँ शराब रखी है। वहाँ पहले एक विद्यालय था।" * 3,
}
ENGLISH = (
    "The old house on the square has seven rooms and a cellar in which the wine is kept. People in the village say "
    "that it was a school before, and that in winter the teacher fetched the wood himself."
)


@pytest.mark.parametrize("language", TEXTS)
def test_other_languages(language: str) -> None:
    assert judge(TEXTS[language]) == "other"


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        f"{ENGLISH} The Greeks wrote: γνῶθι σεαυτόν, and the Chinese 学而时习之.",
        "\n".join(f"def f{number}():  # {ENGLISH}\n    return {number}" for number in range(3)),
    ],
)
def test_english(text: str) -> None:
    assert judge(text) == "english"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Snow is white.",
        "Schnee ist weiß.",
        "id,name,rent\n" + "\n".join(f"{number},Sand,900" for number in range(200)),
        "\n".join(f"Name: Sand; Rent: {number}; Town: Oslo" for number in range(200)),
        "import os\n\n\ndef main(argv: list[str]) -> int:\n    for each in argv:\n        print(each)\n    return 0\n"
        * 9,
        '{"a": [1, 2, 3], "b": {"c": "word"}}\n' * 99,
        "1 2 3 4 5 6 7 8 9 10 " * 99,
    ],
)
def test_short_texts_code_and_tables_are_not_judged(text: str) -> None:
    assert judge(text) is None


def test_no_english_source_code_is_taken_for_another_language() -> None:
    check = LanguageCheck()
    for path in sorted(Path(__file__).parents[2].glob("ragx/**/*.py")):
        check.add(path.read_text(encoding="utf-8"))
    assert check.english > 100
    assert check.other == 0


def test_most_of_the_texts_decide() -> None:
    check = LanguageCheck()
    assert not check.is_foreign
    for text in (ENGLISH, TEXTS["german"], "1 2 3"):
        check.add(text)
    assert not check.is_foreign
    check.add(TEXTS["russian"])
    assert check.is_foreign
