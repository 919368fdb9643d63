"""What titles and headings bring to retrieval: `python -m benchmarks.headings FOLDER...`, a folder of documents a set.

Three kinds of questions: about a section, from its heading and the one above it; about a later part of a section, which
does not repeat a word of the heading; and as a control half the words of a sentence, which needs no headings. Recall@10
is the share of the answer's characters in the first ten passages, so it can be compared between ways to chunk. Prints a
Markdown table with 95 % intervals over questions; the gain is that of headings over titles, paired by question.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from benchmarks.tables import markdown
from ragx.config import Chunking, IndexSettings
from ragx.corpus import Document, read_documents, split_passages
from ragx.corpus.document import Heading
from ragx.evaluation.bootstrap import mean
from ragx.index import Index, build_index
from ragx.retrieval import Retriever, open_embedder
from ragx.types import Embedder, Passage, SearchMethod

K = 10
PART_WORDS = 50
"""Words of a part of a section; the first of them is not asked for."""
LEAST_WORDS = 30
"""Words of an answer that is a section or a part of one."""
NO_SUBJECT = re.compile(r"(note|tip|caution|warning|important|example|see also|overview|introduction)s?", re.IGNORECASE)
STOP = frozenset(
    "about with from that this what when your using does into have other their which how for the and".split()  # noqa: SIM905
)
TEMPLATES = ("How does {x} work{y}?", "What do I need to know about {x}{y}?", "Could you explain {x}{y}?")


@dataclass(frozen=True)
class Question:
    kind: str
    text: str
    document: str
    start: int
    """Character offset of the answer in the document."""
    end: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--questions", type=int, default=200, help="of each kind, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    embedder = open_embedder("all-minilm-l6-v2")
    for folder in options.folders:
        documents = [entry for entry in read_documents([folder]) if isinstance(entry, Document)]
        asked = questions(documents, options.questions, random.Random(options.seed))
        passages = list(split_passages(documents, Chunking(), embedder.tokenizer, embedder.window))
        print(f"\n{folder.name}: {len(documents)} documents, {len(passages)} passages\n")
        untitled = [replace(passage, title="", headings="") for passage in passages]
        titled = [replace(passage, headings="") for passage in passages]
        by_text, by_title, by_headings = (recalls(each, asked, embedder) for each in (untitled, titled, passages))
        rows = []
        for key, shares in by_headings.items():
            gain = [share - without for share, without in zip(shares, by_title[key], strict=True)]
            cells = [interval(each) for each in (by_text[key], by_title[key], shares, gain)]
            rows.append((f"{len(shares)} × {key[0]}", key[1], *cells))
        print(markdown(("questions", "search", "text", "title, text", "title, headings, text", "gain"), rows))


def questions(documents: Sequence[Document], number: int, rng: random.Random) -> list[Question]:
    """At most `number` questions of each kind, no two with the same text."""
    kinds: dict[str, dict[str, Question]] = {}
    for document in documents:
        for question in (*heading_questions(document, rng), *sentence_questions(document, rng)):
            kinds.setdefault(question.kind, {})[question.text] = question
    return [question for each in kinds.values() for question in rng.sample(list(each.values()), min(number, len(each)))]


def heading_questions(document: Document, rng: random.Random) -> Iterator[Question]:
    path: list[Heading] = []
    end = Heading(len(document.text), 0, "")
    for heading, following in pairwise([*document.headings, end]):
        path = [above for above in path if above.level < heading.level] + [heading]
        subject = plain(heading.text)
        if NO_SUBJECT.fullmatch(subject) or not stems(subject):
            continue
        above = [plain(name) for name in (document.title, *(above.text for above in path[:-1]))]
        context = next((name for name in reversed(above) if name != subject and not NO_SUBJECT.fullmatch(name)), "")
        question = reword(subject, context, rng)
        words = list(re.finditer(r"\S+", document.text[: following.start]))
        words = [word for word in words if word.start() >= heading.start][len(heading.text.split()) :]
        if len(words) >= LEAST_WORDS:
            yield Question("section", question, document.id, words[0].start(), words[-1].end())
        later = [words[at : at + PART_WORDS] for at in range(PART_WORDS, len(words) - LEAST_WORDS, PART_WORDS)]
        spans = [(part[0].start(), part[-1].end()) for part in later]
        spans = [(start, end) for start, end in spans if not stems(subject) & stems(document.text[start:end])]
        if spans:
            yield Question("later part", question, document.id, *rng.choice(spans))


def sentence_questions(document: Document, rng: random.Random) -> Iterator[Question]:
    for match in re.finditer(r"(?<=[.!?]\s)[A-Z][^.!?|]{100,250}[.!?](?=\s)", document.text):
        words = match.group().split()
        if not any(match.start() <= heading.start < match.end() for heading in document.headings):
            kept = sorted(rng.sample(range(len(words)), len(words) // 2))
            yield Question(
                "sentence (control)", " ".join(words[at] for at in kept), document.id, match.start(), match.end()
            )


def plain(heading: str) -> str:
    """A heading without its number and marks, in lower case."""
    return re.sub(r"^(chapter\s|part\s)?[\d.]+\s+|[`*¶:]", "", heading.strip().lower())


def stems(text: str) -> set[str]:
    """The first five letters of the words that carry meaning."""
    return {word[:5] for word in re.findall(r"[a-z]{3,}", text.lower()) if word not in STOP}


def reword(subject: str, context: str, rng: random.Random) -> str:
    where = f" in {context}" if context else ""
    if subject.endswith("?"):
        return f"{subject[:-1]}{where}?"
    if subject.startswith("how to "):
        return f"How do I {subject.removeprefix('how to ')}{where}?"
    if subject.split()[0].endswith("ing"):
        return f"How do I go about {subject}{where}?"
    return rng.choice(TEMPLATES).format(x=subject, y=where)


def recalls(
    passages: list[Passage], asked: Sequence[Question], embedder: Embedder
) -> dict[tuple[str, SearchMethod], list[float]]:
    """The recall of each question, by kind and method."""
    shares: dict[tuple[str, SearchMethod], list[float]] = {}
    with TemporaryDirectory() as folder:
        build_index(iter(passages), Path(folder), embedder, IndexSettings())
        retriever = Retriever(Index.open(Path(folder)), embedder)
        for question in asked:
            for method in get_args(SearchMethod):
                hits = [hit.passage for hit in retriever.search(question.text, K, method)]
                shares.setdefault((question.kind, method), []).append(covered(question, hits))
    return shares


def covered(question: Question, passages: Sequence[Passage]) -> float:
    """The share of the answer's characters that are in passages which do not overlap."""
    own = [passage for passage in passages if passage.document == question.document]
    overlaps = (min(passage.end, question.end) - max(passage.start, question.start) for passage in own)
    return min(1.0, sum(max(0, overlap) for overlap in overlaps) / (question.end - question.start))


def interval(values: Sequence[float]) -> str:
    estimate = mean(values)
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


if __name__ == "__main__":
    main()
