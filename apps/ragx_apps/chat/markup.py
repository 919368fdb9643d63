"""A conversation as HTML. Everything that a model, a passage or a visitor wrote is escaped here.

Answers may have Markdown, without links and images: a passage could make the model write one that tells on the visitor.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from secrets import token_hex

from markdown_it import MarkdownIt

from ragx.types import Passage, ReaderName
from ragx.util.terminal import plain
from ragx.util.text import counted
from ragx_apps.chat.conversation import Reply, Source, Turn

READERS: dict[ReaderName, str] = {
    "cepe": "CEPE",
    "full": "Full prompt",
    "replug": "REPLUG",
    "streaming": "StreamingLLM",
    "extensible": "Extensible Embedding",
}
WAITING = "Waiting for other answers to finish"
UNSUPPORTED = "No passage supports this answer: it may be made up."
SHOWN_SOURCES = 12
"""Passages listed at once; the others open on a click."""
SNIPPET = 100
"""Characters of a passage shown beside its title, from the cited span if there is one."""
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
_MARKDOWN.disable(["image", "link", "autolink", "reference"])
_OPEN, _CLOSE = "\x01", "\x02"
"""Around the number of a citation, until its text is HTML; `plain` leaves no such characters in an answer."""
_MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
EMPTY = """<div class="empty"><h2>Ask your documents</h2>
<p>The answer comes with the passages it was read from. Follow-up questions are understood in context.</p></div>"""


def conversation(turns: Sequence[Turn], *, can_rate: bool = False) -> str:
    """All turns, or a hint if there are none; `can_rate`: with buttons for what the visitor thinks of an answer."""
    html = [turn_html(number, turn, can_rate=can_rate) for number, turn in enumerate(turns)]
    return "".join([*html, _button("again", "Try again")]) if html else EMPTY


def turn_html(number: int, turn: Turn, *, waiting: str = "", can_rate: bool = False) -> str:
    """A turn; `waiting` is shown while a reply has no text."""
    replies = [_reply(f"{number}.{place}", reply, waiting, can_rate) for place, reply in enumerate(turn.replies)]
    compared = " compared" if len(turn.replies) > 1 else ""
    return (
        f'<article class="turn{compared}"><h2 class="question">{_text(turn.question)}</h2>{_button("edit", "Edit")}'
        f'<div class="replies">{"".join(replies)}</div></article>'
    )


def found(sources: Sequence[Source], read: int) -> str:
    """The passages found, while they are read."""
    return _sources("found", sources, read, "as retrieved")


def _reply(name: str, reply: Reply, waiting: str, can_rate: bool) -> str:
    label = READERS[reply.reader]
    body = [f'<p class="reader">{label}</p>']
    if reply.error:
        body.append(f'<p class="error" role="alert">{_text(reply.error)}</p>')
    elif reply.text:
        body.append(f'<div class="text">{_markdown(name, reply)}</div>')
    elif reply.finished:
        body.append(f'<p class="text none">{"Stopped before the first word." if reply.stopped else "No answer."}</p>')
    else:
        body.append(
            f'<p class="waiting" role="status">{_text(waiting) if reply.ahead is None else _waiting(reply.ahead)}</p>'
        )
    if reply.finished and not reply.error:
        body += [_citations(name, reply), _figures(reply)]
        body += [f'<p class="note">{_text(note)}</p>' for note in reply.notes]
        body.append(_buttons(name, reply, can_rate) if reply.text else "")
    answer = f'<div class="answer" aria-busy="{str(not reply.finished).lower()}">{"".join(body)}</div>'
    state = "" if reply.finished else " growing"
    return f'<section class="reply{state}" aria-label="{label}">{answer}{_reply_sources(name, reply)}</section>'


def _waiting(ahead: int) -> str:
    return f"{WAITING} ({ahead} ahead in the queue) …" if ahead else f"{WAITING} …"


def _button(name: str, label: str, **attributes: str) -> str:
    """A button for page.js."""
    more = "".join(f' {attribute.replace("_", "-")}="{escape(value)}"' for attribute, value in attributes.items())
    return f'<button type="button" class="{name}"{more}>{label}</button>'


def _buttons(name: str, reply: Reply, can_rate: bool) -> str:
    """What can be done with an answer."""
    buttons = [_button("copy", "Copy")]
    if can_rate:
        for rating in ("good", "bad"):
            pressed = str(reply.rating == rating).lower()
            buttons.append(_button(f"rate {rating}", f"{rating.title()} answer", aria_pressed=pressed, data_at=name))
    return f'<p class="buttons">{"".join(buttons)}</p>'


def _markdown(name: str, reply: Reply) -> str:
    """The answer as HTML, in which numbers lead to the passages they cite."""
    text = plain(reply.text)
    pieces, at = [], 0
    for offset, number in reply.marks:
        pieces += [text[at:offset], f"{_OPEN}{number}{_CLOSE}"]
        at = offset
    tokens = _MARKDOWN.parse("".join([*pieces, text[at:]]))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):  # those of the page come before it
            token.tag = "h4"
        for part in (token, *(token.children or [])):
            if part.type.startswith(("code", "fence")):  # would be copied with the code
                part.content, part.info = (_MARK.sub("", each) for each in (part.content, part.info))
    html: str = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    places = {number: place for place, source in enumerate(reply.sources) for number, _, _ in source.cited}
    return _MARK.sub(lambda mark: _mark(name, int(mark[1]), places.get(int(mark[1]))), html)


def _mark(name: str, number: int, place: int | None) -> str:
    return "" if place is None else f'<a class="citation mark" href="#{_id(name, place)}">{number}</a>'


def _id(name: str, place: int) -> str:
    """The id of a source, by which links and page.js find it."""
    return f"source-{name}.{place}"


def _citations(name: str, reply: Reply) -> str:
    cited = [(number, place, source) for place, source in enumerate(reply.sources) for number, _, _ in source.cited]
    numbered = sorted(cited, key=lambda each: each[0])
    if not numbered:
        warns = reply.sources and not reply.supported
        return f'<p class="warning" role="note">{UNSUPPORTED}</p>' if warns else ""
    links = [
        f'<a class="citation" href="#{_id(name, place)}"><b>{number}</b> {_text(source.title)}</a>'
        for number, place, source in numbered
    ]
    return f'<p class="citations" aria-label="Citations">{" ".join(links)}</p>'


def _figures(reply: Reply) -> str:
    figures = [f"{counted(reply.read, 'passage')} read"] if reply.read else []
    if reply.first_token:
        figures.append(f"first token after {reply.first_token:.1f} s")
    if reply.tokens_per_second:
        figures.append(f"{reply.tokens_per_second:.1f} tokens/s")
    if reply.stopped:
        figures.append("stopped")
    if reply.cut:
        figures.append("cut at the maximum length")
    return f'<p class="figures">{" · ".join(figures)}</p>' if figures else ""


def _reply_sources(name: str, reply: Reply) -> str:
    if not reply.sources:
        return ""
    attends = reply.sources[0].share is not None
    order = "cited first, then by share of the attention" if attends else "cited first, then as retrieved"
    return _sources(name, reply.sources, reply.read, order)


def _sources(name: str, sources: Sequence[Source], read: int, order: str) -> str:
    items = [_source(name, place, source) for place, source in enumerate(sources)]
    first, others = "".join(items[:SHOWN_SOURCES]), "".join(items[SHOWN_SOURCES:])
    more = counted(len(items) - SHOWN_SOURCES, "more passage")
    others = f'<details class="more"><summary>{more}</summary><ol>{others}</ol></details>' if others else ""
    rest = read - len(sources)
    unlisted = f'<p class="note">{rest} more passages were read.</p>' if rest > 0 else ""
    return (
        f'<aside class="sources" aria-label="Sources"><h3>Sources <small>{order}</small></h3>'
        f"<ol>{first}</ol>{others}{unlisted}</aside>"
    )


def _source(name: str, place: int, source: Source) -> str:
    numbers = "".join(f'<b class="number">{number}</b>' for number, _, _ in source.cited)
    share = ""
    if source.share is not None:
        share = (
            f'<span class="share"><span class="bar" style="width:{100 * source.share:.1f}%"></span></span>'
            f'<span class="percent">{source.share:.1%}</span>'
        )
    page = _button("page", f"Show page {source.page}", data_at=f"{name}.{place}") if source.page else ""
    return (
        f'<li><details id="{_id(name, place)}"><summary>{numbers}<span class="title">'
        f"{_text(source.title)}<small>{_text(_snippet(source))}</small></span>{share}</summary>"
        f'<p class="passage">{_marked(source)}</p><p class="place">{_text(source.place)}{page}</p></details></li>'
    )


def _snippet(source: Source) -> str:
    start = min((start for _, start, _ in source.cited), default=0)
    return " ".join(source.text[start : start + SNIPPET].split())


def _marked(source: Source) -> str:
    """The passage, with cited spans marked."""
    pieces, at = [], 0
    for _, start, end in sorted(source.cited, key=lambda cited: cited[1]):
        start, end = max(start, at), max(end, at)
        pieces += [_text(source.text[at:start]), f"<mark>{_text(source.text[start:end])}</mark>"]
        at = end
    return "".join([*pieces, _text(source.text[at:])])


def _text(text: str) -> str:
    return escape(plain(text))


def pdf_page(passage: Passage, image: bytes | None) -> str:
    """A dialog with the page on which a passage begins; without an image, one that says so."""
    name = f"Page {passage.page} of {passage.title or passage.document}"
    anew = token_hex(4)  # the same HTML would not be shown again
    drawn = f'<img src="data:image/png;base64,{b64encode(image).decode()}" alt="">' if image else ""
    shown = drawn or '<p class="error">This page cannot be drawn: the file may have changed.</p>'
    return (
        f'<dialog class="page-view" id="page-{anew}" aria-label="{_text(name)}">'
        f'<form method="dialog"><b>{_text(name)}</b>'
        f'<button class="close">Close</button></form>{shown}</dialog>'
    )


def head(index: str, model: str, notes: Sequence[str]) -> str:
    """The page's heading and notes about the models."""
    said = "".join(f'<p class="note">{_text(note[:1].upper() + note[1:])}.</p>' for note in notes)
    return f"<h1>ragx <small>{_text(index)} · {_text(model)}</small></h1>{said}"


def upload_report(files: Sequence[str], passages: int, skipped: Sequence[str]) -> str:
    """The result of an upload."""
    named = ", ".join(files)
    failed = "".join(f'<p class="error">{_text(each)}</p>' for each in skipped)
    asked = f"{counted(passages, 'passage')} of {_text(named)} can be asked."
    kept = "This ragx server deletes the files when you close the page."
    return f'<p class="note" role="status">{asked} {kept}</p>{failed}'


def upload_error(message: str) -> str:
    """The reason an upload failed."""
    return f'<p class="error" role="alert">{_text(message)}.</p>'
