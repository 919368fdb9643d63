"""Lexical search finds the answering sentence in languages with and without spaces between words."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ragx.config import IndexSettings
from ragx.index import Index, build_index, read_manifest, update_index
from ragx.retrieval import Retriever
from tests.helpers.toy_embedders import WordEmbedder, passage, passages

SENTENCES: dict[str, dict[str, str]] = {
    "chinese": {
        "长江的长度是多少？": "长江全长约六千三百公里，是亚洲最长的河流。",
        "黄河流入哪个海？": "黄河最后流入渤海。",
        "谁发明了造纸术？": "蔡伦改进了造纸术。",
        "故宫在哪里？": "故宫位于北京市中心，建于明朝。",
        "熊猫吃什么？": "大熊猫主要吃竹子。",
        "茶": "陆羽写了第一部关于茶的书。",
        "光速有多快？": "真空中的光速约为每秒三十万公里。",
        "水在多少度沸腾？": "在标准大气压下，水在一百摄氏度沸腾。",
        "月球绕什么转？": "月球绕地球运行一周约二十七天。",
        "谁写了红楼梦？": "曹雪芹是《红楼梦》的作者。",
    },
    "japanese": {
        "富士山の高さは？": "富士山は標高三千七百七十六メートルで、日本で一番高い。",
        "日本の首都はどこですか": "東京は日本の首都で、人口が最も多い都市である。",
        "源氏物語を書いたのは誰？": "紫式部は平安時代に源氏物語を書いた。",
        "ラーメンの麺は何から作る": "ラーメンの麺は小麦粉から作られる。",
        "京都の金閣寺": "金閣寺は京都の北にある寺院である。",
        "新幹線の速度": "新幹線は時速三百キロで走ることができる。",
        "桜はいつ咲くか": "桜は三月の終わりから四月に咲く。",
        "ｺﾝﾋﾟｭｰﾀ": "コンピュータは二進法で計算する。",
        "柔道の始まり": "柔道は嘉納治五郎が一八八二年に創始した。",
        "琵琶湖の大きさ": "琵琶湖は滋賀県にある日本最大の湖である。",
    },
    "korean": {
        "한글은 누가 만들었나요?": "세종대왕은 천사백사십삼년에 한글을 창제하였다.",
        "한국에서 가장 높은 산": "한라산은 제주도에 있으며 남한에서 가장 높은 산이다.",
        "김치 재료": "김치는 배추와 고춧가루로 만든다.",
        "서울을 흐르는 강": "한강은 서울을 가로질러 황해로 흐른다.",
        "태권도의 기원": "태권도는 한국의 전통 무술에서 발전했다.",
        "불국사 위치": "불국사는 경주에 있는 절이다.",
        "광복절 날짜": "광복절은 팔월 십오일이다.",
        "비빔밥이란": "비빔밥은 밥에 나물과 고추장을 넣어 비빈다.",
    },
    "thai": {
        "เมืองหลวงของประเทศไทยคืออะไร": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
        "ภูเขาที่สูงที่สุด": "ดอยอินทนนท์เป็นภูเขาที่สูงที่สุดในเชียงใหม่",
        "ต้มยำกุ้งใส่อะไร": "ต้มยำกุ้งปรุงด้วยตะไคร้ ใบมะกรูด และพริก",
        "แม่น้ำเจ้าพระยา": "แม่น้ำเจ้าพระยาไหลลงสู่อ่าวไทย",
        "ช้างกินอะไร": "ช้างกินหญ้าและผลไม้วันละสองร้อยกิโลกรัม",
        "สงกรานต์จัดเมื่อไร": "วันสงกรานต์ตรงกับวันที่สิบสามเมษายน",
        "มวยไทย": "มวยไทยใช้หมัด ศอก เข่า และเท้า",
        "ข้าวหอมมะลิ": "ข้าวหอมมะลิปลูกมากในภาคอีสาน",
    },
    "german": {
        "Welche Häuser stehen am Marktplatz?": "Am Marktplatz steht ein altes Haus aus Fachwerk.",
        "Wer hat die Maschinen erfunden?": "Diese Maschine wurde von einem Uhrmacher erfunden.",
        "Wie schnell laufen Geparden?": "Der Gepard läuft bis zu hundert Kilometer in der Stunde.",
        "Wann blühen die Kirschbäume?": "Ein Kirschbaum blüht im April.",
        "Wann wurden Universitäten gegründet?": "Die Universität Heidelberg wurde 1386 gegründet.",
        "Wie entsteht Schnee?": "Schnee entsteht, wenn Wasserdampf gefriert.",
        "Warum sind Straßen nass?": "Nach dem Regen war jede Strasse nass.",
        "Wohin fliegen die Störche?": "Im Herbst fliegt der Storch nach Afrika.",
        "Wie werden Brote gebacken?": "Das Brot bäckt eine Stunde im Ofen, es wird dunkel gebacken.",
        "Wie viele Flüsse münden in die Donau?": "Der Inn ist ein Fluss, der bei Passau in die Donau mündet.",
    },
    "arabic": {
        "ما هي عاصمة مصر؟": "القاهرة هي عاصمة جمهورية مصر العربية.",
        "أين يقع نهر النيل؟": "يمر نهر النيل عبر السودان ويصب في البحر المتوسط.",
        "من كتب المقدمة؟": "ابن خلدون كتب كتاب المقدمة في علم التاريخ.",
        "متى بنيت الأهرامات؟": "بنيت أهرامات الجيزة قبل أكثر من أربعة آلاف سنة.",
        "ماذا يأكل الجمل؟": "الجمل يأكل النباتات الشوكية في الصحراء.",
        "كم عدد الكواكب؟": "عدد كواكب المجموعة الشمسية ثمانية.",
        "كيف تصنع القهوة؟": "تحضر القهوة من حبوب محمصة ومطحونة.",
        "ما هو الجبر؟": "وضع الخوارزمي أسس علم الجبر.",
    },
}


@pytest.mark.parametrize("language", SENTENCES)
def test_every_question_finds_its_sentence(tmp_path: Path, language: str) -> None:
    answers = SENTENCES[language]
    sentences = [sentence for each in SENTENCES.values() for sentence in each.values()]
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
