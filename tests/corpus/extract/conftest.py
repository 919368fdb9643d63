"""Parse one file of any format in the child process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ragx.corpus import Document
from ragx.corpus.extract.parser import Parser
from ragx.corpus.formats import format_of

Parse = Callable[[str, str | bytes], tuple[Document | None, list[str]]]


@pytest.fixture(scope="session")
def text_parser() -> Iterator[Parser]:
    parser = Parser()
    yield parser
    parser.close()


@pytest.fixture
def parse(tmp_path: Path, text_parser: Parser) -> Parse:
    """`parse(name, content)`: the document of a file, or None, and what of it could not be read."""

    def parse(name: str, content: str | bytes) -> tuple[Document | None, list[str]]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        format = format_of(path)
        assert format is not None
        entries = text_parser.read_file(path, name, format)
        documents = [entry for entry in entries if isinstance(entry, Document)]
        reasons = [entry.reason for entry in entries if not isinstance(entry, Document)]
        assert all("\n" not in reason for reason in reasons)
        for document in documents:
            for heading in document.headings:  # each stands at the beginning of a line
                assert document.text[: heading.start].endswith("\n") or heading.start == 0
        return documents[0] if documents else None, reasons

    return parse


def headings(document: Document | None) -> list[tuple[int, str]]:
    """Level and text of the headings."""
    assert document is not None
    return [(heading.level, heading.text) for heading in document.headings]
