"""A text file is decoded to what was written, or with a notice of what was not."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.corpus.encoding import decode

GERMAN = "Der Schnee fällt über Nürnberg, und die Straßen füllen sich mit Kindern. "
TEXTS = {
    "cp1252": "L’été dernier, la réunion a coûté 12 € à Genève ; où était le garçon ? ",
    "cp1250": "Příští týden přijede strýc a přiveze čerstvé třešně, žlutý mák i hrušky. ",
    "iso8859_2": "W zeszłym roku śnieg spadł już w październiku i zasypał całą drogę do młyna. ",
    "cp1251": "В прошлом году снег выпал уже в октябре, и дорогу к мельнице занесло. ",
    "koi8_r": "Кто оставил окно открытым? Всю ночь шёл дождь, и ковёр совсем промок. ",
    "cp1253": "Πέρυσι το χιόνι έπεσε ήδη τον Οκτώβριο και έκλεισε τον δρόμο για τον μύλο. ",
    "cp1254": "Geçen yıl kar daha ekim ayında yağdı ve değirmene giden yolu kapattı. ",
    "cp437": "Die Größe der Fläche beträgt übrigens mehr, als der Schlüssel vermuten läßt. ",
    "cp932": "去年は十月にもう雪が降り、水車小屋への道がふさがってしまいました。",
    "gb18030": "去年十月就下了雪，通往磨坊的路被封住了。奶奶常说，一句好话比蜡烛便宜。",
    "cp949": "작년에는 벌써 시월에 눈이 내려 방앗간으로 가는 길이 막혔다.",
}
visible = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t")).filter(str.strip)


@settings(deadline=None)
@given(visible, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_unicode_text_is_decoded_whatever_it_holds(text, codec):
    decoded = decode(text.encode(codec))
    assert decoded.text == text.removeprefix("\ufeff" if codec == "utf-8" else "")
    assert decoded.notices == ()


@pytest.mark.parametrize("codec", TEXTS)
@pytest.mark.parametrize("repeats", [1, 60])
def test_code_pages_are_told_apart(codec, repeats):
    assert decode((TEXTS[codec] * repeats).encode(codec)).text == TEXTS[codec] * repeats


@pytest.mark.parametrize("text", ["naïve", "20 °C", "It’s – fine", "The café is closed", "La réunion à Genève"])
def test_short_western_texts_are_windows_1252(text):
    assert decode(text.encode("cp1252")).text == text


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text", [GERMAN, TEXTS["koi8_r"], TEXTS["cp932"], "ปีที่แล้วหิมะตกตั้งแต่เดือนตุลาคม ถนนไปโรงสีจึงถูกปิด", "ok\r\n"]
)
def test_wide_text_needs_no_mark(text, codec):
    assert decode(text.encode(codec)).text == text


@pytest.mark.parametrize("stray", [b"\xff", b"\xe4", b"\xc3", b"\x80\x81", b"\xed\xa0\x80"])
@pytest.mark.parametrize("text", [GERMAN, TEXTS["koi8_r"], TEXTS["cp932"]])
def test_utf_8_with_stray_bytes_stays_utf_8(text, stray):
    start, end = (text * 3).encode(), (text * 40).encode()
    decoded = decode(start + stray + end)
    assert decoded.text.replace("\ufffd", "") == text * 43
    assert decoded.encoding == "utf-8"
    assert "not valid UTF-8" in decoded.notices[0]


def test_a_text_may_end_inside_a_character():
    decoded = decode((GERMAN + "Tür grü").encode()[:-1])
    assert decoded.text == GERMAN + "Tür gr\ufffd"
    assert len(decoded.notices) == 1
    decoded = decode(GERMAN.encode("utf-16")[:-1])
    assert decoded.text == GERMAN[:-1] + "\ufffd"
    assert len(decoded.notices) == 1


def test_zeros_at_the_end_of_a_log_are_dropped_and_those_inside_it_counted():
    assert decode(b"4 May: pump replaced\n\0\0\0").text == "4 May: pump replaced\n"
    assert decode(b"4 May: pump replaced\n\0\0\0").notices == ()
    decoded = decode(b"4 May: pump replaced\n" * 9 + b"\0" * 20 + b"5 May: pump broken\n")
    assert decoded.text == "4 May: pump replaced\n" * 9 + "5 May: pump broken\n"
    assert "20 NUL bytes" in decoded.notices[0]


def test_zeros_and_stray_bytes_in_one_text():
    decoded = decode(GERMAN.encode() * 3 + b"\0\xff" + GERMAN.encode())
    assert decoded.text == GERMAN * 3 + "\ufffd" + GERMAN
    assert len(decoded.notices) == 2


def test_a_mark_holds_for_a_damaged_text():
    decoded = decode(b"\xef\xbb\xbf" + (GERMAN.encode() + GERMAN.encode("cp1252")) * 3)
    assert decoded.text.count(GERMAN) == 3
    assert decoded.notices


def test_an_uncertain_guess_has_a_notice():
    assert "a guess" in decode("Žluťoučký kůň".encode("cp1250")).notices[0]
    half = GERMAN.encode() + GERMAN.encode("cp1252")  # a log that two programs wrote
    assert decode(half).notices


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0>\0\x01",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\x2c\0\0\x01\x2c\x08\x02",
        random.Random(0).randbytes(2000),
        b"\xff\xfe" + random.Random(1).randbytes(2000),
        bytes(range(256)) * 3,
        b"\x01\x02\x03\x04\x05",
    ],
)
def test_binary_files_are_no_text(data):
    assert decode(data) is None


@pytest.mark.parametrize("newline", ["\n", "\r", " "])
@pytest.mark.parametrize("codec", ["cp1252", "gb18030"])
def test_the_code_page_of_a_long_text_is_guessed_whatever_its_lines_end_with(codec, newline):
    text = "only ASCII at first " * 10_000 + f"{TEXTS[codec]}{newline}" * 5000
    assert decode(text.encode(codec)).text == text


def test_a_code_page_that_fails_after_its_sample_marks_the_places():
    data = (TEXTS["cp1252"] * 2000).encode("cp1252") + b"\x81" + b"end"
    decoded = decode(data)
    assert decoded.text == TEXTS["cp1252"] * 2000 + "\ufffdend"
    assert "undefined in" in decoded.notices[0]


@pytest.mark.parametrize("data", [b"\xe9" * 1_000_000, b"a\xe9" * 500_000, b"\xc3(" * 500_000, b"\n\xe9" * 500_000])
def test_hostile_bytes_take_linear_time(data):
    started = time.process_time()
    decode(data)
    assert time.process_time() - started < 10
