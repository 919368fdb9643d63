"""A conversation's values, its HTML, and the limits on uploads: without a browser."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragx_apps.chat import markup
from ragx_apps.chat.conversation import (
    KEPT_SOURCES,
    Reply,
    Source,
    Turn,
    messages,
    sources,
    whole_reply,
)
from ragx_apps.chat.uploads import MAX_BYTES, MAX_FILE_BYTES, MAX_FILES, check

from ragx.errors import ConfigError
from ragx.types import Answer, Citation, Hit, Message, Passage, Timings
from ragx.util.terminal import plain

TEXT = st.text() | st.sampled_from(
    [
        *("<script>", "</details>", "&lt;", "\"'><img src=x>", "${a}", "{{a}}", "# a\n> b\n---\n```<b>\nc\n```"),
        *("![a](http://b/c.png)", "[a](javascript:alert(1))", "<http://a.b>", "[a]: http://b\n\n[a]", "3. **a** `<i>`"),
    ]
)
SOURCES = st.builds(
    Source,
    id=TEXT,
    title=TEXT,
    place=TEXT,
    text=TEXT,
    page=st.integers(0, 3),
    cited=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 20))),
    share=st.none() | st.floats(0, 1),
)
REPLIES = st.builds(
    Reply,
    reader=st.sampled_from(["cepe", "full"]),
    text=TEXT,
    marks=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9))).map(sorted),
    rating=st.sampled_from(["", "good", "bad"]),
    finished=st.booleans(),
    sources=st.lists(SOURCES, max_size=3),
    notes=st.lists(TEXT, max_size=2),
    error=TEXT,
)
TURNS = st.builds(Turn, question=TEXT, index=TEXT, replies=st.lists(REPLIES, min_size=1, max_size=2))

TAGS = {
    *("article", "section", "div", "aside", "h2", "h3", "p", "ol", "li", "details", "summary", "span", "small"),
    *("a", "b", "mark", "button"),
}
OF_MARKDOWN = {
    *("h4", "strong", "em", "s", "code", "pre", "ul", "ol", "li", "p", "blockquote", "hr", "br"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


class Seen(HTMLParser):
    """The tags and attributes of a page, and the text of its elements by class."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self._open.append(dict(attributes).get("class") or tag)
        self.texts.append((self._open[-1], ""))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for place in range(len(self.texts) - 1, -1, -1):
            if self._open and self.texts[place][0] == self._open[-1]:
                self.texts[place] = (self._open[-1], self.texts[place][1] + data)
                break

    def of(self, name: str) -> list[str]:
        return [text for kind, text in self.texts if kind == name]


@given(TURNS)
def test_all_text_is_escaped(turn: Turn) -> None:
    seen = Seen(markup.conversation([turn], can_rate=True))
    assert seen.tags <= TAGS | OF_MARKDOWN
    assert seen.attributes <= {
        *("class", "id", "href", "style", "role", "type", "start", "data-at"),
        *("aria-label", "aria-busy", "aria-pressed"),
    }
    assert seen.of("question") == [plain(turn.question)]


def in_page(**values: object) -> Seen:
    reply = Reply.model_validate({"reader": "cepe", "finished": True, **values})
    return Seen(markup.conversation([Turn(question="Why?", index="notes", replies=[reply])]))


def test_an_answer_may_have_markdown() -> None:
    seen = in_page(text="# Snow\n\n**Fresh** snow `reflects`:\n\n- light\n- heat\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    assert {"h4", "strong", "code", "ul", "li", "table", "td"} <= seen.tags
    assert (seen.of("h4"), seen.of("td")) == (["Snow"], ["1", "2"])


@given(TEXT)
def test_an_answer_has_no_links_images_or_html(text: str) -> None:
    seen = in_page(text=text)
    assert seen.tags <= (TAGS - {"a", "mark"}) | OF_MARKDOWN
    assert not seen.attributes & {"href", "src"}


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"supported": False}, [markup.UNSUPPORTED]),
        ({"supported": True}, []),
        ({"supported": False, "sources": []}, []),
    ],
)
def test_an_answer_that_no_passage_supports_is_marked(values: dict[str, object], shown: list[str]) -> None:
    source = Source(id="a", title="a", place="b", text="c")
    assert in_page(**{"text": "Snow.", "sources": [source.model_dump()], **values}).of("warning") == shown


def test_the_numbers_of_citations_lead_to_their_passages() -> None:
    source = {"id": "a", "title": "a", "place": "b", "text": "Snow is white.", "cited": [(1, 0, 4)]}
    text = "Snow is **white**. `Snow` melts.\n\n```\nsnow\n```"
    marks = [(18, 1), (24, 1), (len(text) - 4, 1), (20, 9)]
    html = markup.conversation(
        [
            Turn(
                question="?",
                index="i",
                replies=[
                    Reply.model_validate(
                        {"reader": "cepe", "finished": True, "text": text, "marks": sorted(marks), "sources": [source]}
                    )
                ],
            )
        ]
    )
    assert html.count('class="citation mark" href="#source-0.0.0">1</a>') == 1, "not within code, and no unknown number"
    assert 'id="source-0.0.0"' in html
    assert "white</strong>.<a" in html


def test_a_refusal_has_read_no_passage() -> None:
    assert whole_reply("cepe", replace(an_answer(2, None, []), refused=True)).read == 0


def test_an_answer_of_the_maximum_length_is_marked() -> None:
    (figures,) = in_page(text="Snow", cut=True).of("figures")
    assert "cut" in figures
    assert in_page(text="Snow").of("figures") == []


def test_a_complete_answer_says_how_it_ended() -> None:
    def reply(**changes: object) -> Reply:
        return whole_reply("cepe", replace(an_answer(2, None, []), **changes))  # type: ignore[arg-type]

    assert (reply().cut, reply(finish="length").cut) == (False, True)
    assert (reply().supported, reply(refused=True).supported) == (False, True)
    assert whole_reply("cepe", an_answer(2, None, [1])).supported


def test_further_sources_open_on_a_click() -> None:
    many = [
        Source(id="a", title=str(number), place="", text="").model_dump() for number in range(markup.SHOWN_SOURCES + 5)
    ]
    assert in_page(sources=many).of("more") == [""]
    assert "more" not in [name for name, _ in in_page(sources=many[:-5]).texts]


def test_a_follow_up_builds_on_the_answered_turns_of_its_index() -> None:
    def turn(question: str, index: str, *answers: str) -> Turn:
        return Turn(question=question, index=index, replies=[Reply(reader="cepe", text=text) for text in answers])

    turns = [turn("A?", "notes", "a", "other"), turn("B?", "else", "b"), turn("C?", "notes", ""), turn("D?", "notes")]
    assert messages(turns, "notes") == [Message("user", "A?"), Message("assistant", "a")]


def an_answer(number: int, shares: list[float] | None, cited: list[int]) -> Answer:
    passages = [
        Passage(f"d#{i}", "d", f"T{i}", f"text {i} is here", i, 100 * i, 100 * i + 20, "d") for i in range(number)
    ]
    citations = [
        Citation(place, f"d#{i}", "d", f"T{i}", "d", 100 * i + 5, 100 * i + 6, "", 1.0)
        for place, i in enumerate(cited, start=1)
    ]
    return Answer("", citations, [Hit(each, 1.0) for each in passages], Timings(0, 0, 0, 0, 0), attention_shares=shares)


def test_cited_sources_come_first_then_those_of_the_largest_share() -> None:
    shares = [0.001 * number for number in range(KEPT_SOURCES + 20)]
    found = sources(an_answer(len(shares), shares, [2, 39]))
    others = [share for share in sorted(shares, reverse=True)[:KEPT_SOURCES] if share != shares[39]]
    assert [source.share for source in found] == [shares[2], shares[39], *others]
    assert [source.cited for source in found[:3]] == [[(1, 5, 6)], [(2, 5, 6)], []]


def test_without_attention_sources_are_in_retrieval_order() -> None:
    found = sources(an_answer(KEPT_SOURCES + 20, None, []))
    assert [source.title for source in found] == [f"T{number}" for number in range(KEPT_SOURCES)]
    assert all(source.share is None for source in found)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_uploads_are_limited(tmp_path: Path) -> None:
    small = [sparse(tmp_path / f"{number}.txt", 10) for number in range(MAX_FILES + 1)]
    check(small[:-1], [])
    check(small[:5], small[:-1])  # the same again
    for files, held, message in [
        (small, [], "too many"),
        (small[-1:], small[:-1], "too many"),
        ([sparse(tmp_path / "a.exe", 1)], [], "a.exe"),
        ([sparse(tmp_path / "b.txt", MAX_FILE_BYTES + 1)], [], "b.txt is too large"),
        (
            [sparse(tmp_path / f"c{i}.txt", MAX_FILE_BYTES) for i in range(1 + MAX_BYTES // MAX_FILE_BYTES)],
            [],
            "100 MB",
        ),
    ]:
        with pytest.raises(ConfigError, match=message):
            check(files, held)
