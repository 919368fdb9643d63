"""How answers, hits and reports look on a terminal and as JSON. Text from passages passes through `plain`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragx.corpus.document import one_line
from ragx.types import Answer, Citation, Hit, Passage, place
from ragx.util.terminal import plain
from ragx.util.text import counted

if TYPE_CHECKING:
    from ragx.corpus.document import Skipped
    from ragx.index import Manifest
    from ragx.index.documents import IndexedDocument
    from ragx.retrieval import SearchResults

_WIDTH = 100
_LONG_WAIT = 15
"""Seconds to the first token after which a faster setting is named."""


def _no_fields(_: Passage) -> Mapping[str, object]:
    return {}


def sources(answer: Answer, fields: Callable[[Passage], Mapping[str, object]] | None = None) -> str:
    """The numbered sources under an answer; `fields`: those of a passage to show."""
    if answer.refused:
        return f"Sources: none of the {len(answer.hits)} passages found is likely to hold the answer."
    if not answer.citations:
        return f"Sources: none of the {len(answer.hits)} passages read supports this answer."
    passages = {hit.passage.id: hit.passage for hit in answer.hits}
    fields = fields or _no_fields
    cited = ((citation, fields(passages[citation.passage_id])) for citation in answer.citations)
    return "\n".join(["Sources:", *(_source(citation, shown) for citation, shown in cited)])


def reading(hits: Sequence[Hit]) -> str:
    """A status line: how many passages are read, and the titles of the first."""
    titles = list(dict.fromkeys(hit.passage.title or hit.passage.document for hit in hits))
    named = f": {one_line(', '.join(titles), _WIDTH - 30)}" if titles else ""
    return f"reading {counted(len(hits), 'passage')}{named}"


def whole_passage(passage: Passage) -> str:
    """A passage in full: its title, where it stands, and its text, in which a blank line ends a page."""
    heading = f"{plain(passage.title or passage.document)}\n{plain(passage.source)}, {place(passage)}"
    text = passage.text.replace("\f", "\n\n")
    return f"{heading}\n\n{plain(text)}"


def attention_shares(answer: Answer) -> str:
    """The hits by their share of the attention, largest first."""
    if answer.attention_shares is None:
        return "Attention: this reader does not attend to passages (it is untrained, or not cepe)."
    ranked = sorted(zip(answer.attention_shares, answer.hits, strict=True), key=lambda pair: -pair[0])
    lines = [
        f"{share:>6.1%}  {plain(hit.passage.title or hit.passage.document)}  ({hit.passage.id})"
        for share, hit in ranked
    ]
    return "\n".join(["Attention:", *map(plain, lines)])


def hit_list(hits: Sequence[Hit], fields: Callable[[Passage], Mapping[str, object]] = _no_fields) -> str:
    """Search results, best first; `fields`: those of a passage to show."""
    lines = []
    for rank, hit in enumerate(hits, start=1):
        passage = hit.passage
        reranked = "" if hit.rerank_score is None else f"; {plain(hit.reranker or '')} {hit.rerank_score:.4f}"
        lines.append(f"{rank:>3}. {plain(passage.title or passage.document)}  (score {hit.score:.4f}{reranked})")
        lines.append(f"     {plain(passage.source)}, {place(passage)}")
        lines += _fields(fields(passage))
        lines.append(_quote(passage.text))
    return "\n".join(lines)


def timings(answer: Answer) -> str:
    """Durations and decoding speed in one line."""
    times = answer.timings
    return (
        f"{counted(len(answer.hits), 'passage')} read: found in {times.retrieve:.2f} s,"
        f" encoded in {times.encode:.2f} s; first token after {times.first_token:.2f} s, all after {times.total:.2f} s"
        f" ({times.tokens_per_second:.1f} tokens/s)"
    )


def faster(answer: Answer, *, searched: bool) -> str:
    """What would shorten a long wait for the first token; empty after a short one."""
    times = answer.timings
    if times.first_token <= _LONG_WAIT:
        return ""
    if searched:
        retrieve = "searching took {:.0f} s of the wait; --rerank none or a smaller -k is faster"
        encode = "encoding took {:.0f} s of the wait; a smaller -k is faster, as are passages read before"
    else:
        retrieve = "reading the files took {:.0f} s of the wait"
        encode = "encoding took {:.0f} s of the wait; the next question about these passages skips it"
    prompt = "reading the prompt took {:.0f} s of the wait; lower --prompt-passages to shorten it"
    prompt_seconds = times.first_token - times.retrieve - times.encode
    seconds, line = max((times.retrieve, retrieve), (times.encode, encode), (prompt_seconds, prompt))
    return line.format(seconds)


def answer_json(question: str, answer: Answer) -> str:
    """One JSON object; non-ASCII characters are escaped, so it is safe on any terminal."""
    metadata = {hit.passage.id: _metadata(hit.passage) for hit in answer.hits}
    values = {
        "question": question,
        "answer": answer.text,
        "citations": [
            {**asdict(citation), "metadata": metadata.get(citation.passage_id, {})} for citation in answer.citations
        ],
        "hits": [_hit(hit) for hit in answer.hits],
        "timings": asdict(answer.timings),
        "tokens_per_second": answer.timings.tokens_per_second,
        "attention_shares": answer.attention_shares,
        "likelihood": answer.likelihood,
        "refused": answer.refused,
        "supported": answer.supported,
        "notes": answer.notes,
    }
    return json.dumps(values, indent=2)


def hits_json(question: str, hits: SearchResults[Hit]) -> str:
    """One JSON object with the search results, best first."""
    return json.dumps({"question": question, "hits": [_hit(hit) for hit in hits], "notes": hits.notes}, indent=2)


def report(findings: Mapping[str, object]) -> str:
    """Named values, one a line; groups and lists are indented."""
    lines = []
    for key, value in findings.items():
        if isinstance(value, Mapping):
            lines += [f"{key}:", textwrap.indent(report(value), "  ")]
        elif isinstance(value, list) and value:
            lines += [f"{key}:", *(f"  {plain(str(entry))}" for entry in value)]
        else:
            lines.append(f"{key}: {plain(str('none' if value in ([], None) else value))}")
    return "\n".join(lines)


def index_info(folder: Path, manifest: Manifest) -> dict[str, object]:
    """What an index holds, as plain values; counts come first."""
    return {
        "folder": str(folder),
        **manifest.counts.model_dump(),
        "bytes": sum(entry.size for entry in manifest.files.values()),
        "created": manifest.created,
        "embedder": manifest.embedder.model_dump(),
        "settings": manifest.settings.model_dump(mode="json"),
    }


def index_table(infos: Sequence[Mapping[str, Any]]) -> str:
    """The named indexes, one line each, with a header."""
    lines = [f"{'index':<16} {'documents':>9} {'passages':>10}  {'built':<10} folder"]
    for info in infos:
        if "error" in info:
            lines.append(f"{info['name']:<16} {plain(info['error'])}")
        else:
            counts = f"{info['documents']:>9,} {info['passages']:>10,}"
            lines.append(f"{info['name']:<16} {counts}  {info['created'][:10]} {plain(info['folder'])}")
    return "\n".join(lines)


def field_line(name: str, summary: Mapping[str, Any]) -> str:
    """A field of an index: its name, the number of passages that have it, and examples of its values."""
    examples = one_line(", ".join(json.dumps(value, ensure_ascii=False) for value in summary["examples"]), 80)
    return plain(f"{name:<16} {counted(summary['passages'], 'passage'):>18}  {'/'.join(summary['types'])}: {examples}")


def document_lines(document: IndexedDocument) -> str:
    """A document: its id, number of passages, title and source, and its metadata if any."""
    origin = ", ".join(filter(None, (document.title, document.source)))
    lines = [f"{plain(document.id)}  ({counted(document.passages, 'passage')})", f"     {plain(origin)}"]
    if document.metadata:
        lines.append(f"     {plain(', '.join(f'{name}: {value}' for name, value in document.metadata.items()))}")
    return "\n".join(lines)


def skipped_line(skipped: Skipped) -> str:
    """A file that was skipped or read in part, and why."""
    return plain(f"{'read in part: ' * skipped.partial}{skipped.source}: {skipped.reason}")


def _hit(hit: Hit) -> dict[str, object]:
    scores = {"score": hit.score, "rerank_score": hit.rerank_score, "reranker": hit.reranker}
    return {**asdict(hit.passage), "metadata": _metadata(hit.passage), **scores}


def _metadata(passage: Passage) -> object:
    return json.loads(passage.metadata) if passage.metadata else {}


def _fields(values: Mapping[str, object]) -> list[str]:
    shown = "; ".join(
        f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}" for name, value in values.items()
    )
    return [f"     {plain(one_line(shown, _WIDTH))}"] if shown else []


def _source(citation: Citation, fields: Mapping[str, object]) -> str:
    head = f"[{citation.number}] {plain(citation.title or citation.document)}  (score {citation.score:.2f})"
    location = f"     {plain(citation.source)}, {place(citation)}"
    return "\n".join([head, location, *_fields(fields), _quote(citation.text)])


def _quote(text: str) -> str:
    return (
        textwrap.fill(" ".join(plain(text).split()), width=_WIDTH, initial_indent="     “", subsequent_indent="      ")
        + "”"
    )
