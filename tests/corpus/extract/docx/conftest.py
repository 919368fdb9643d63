"""Parse Word documents."""

from __future__ import annotations

import pytest

from ragx.corpus.extract import docx
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.parser import Parser
from tests.helpers.office import core_properties, relations, write_parts, xml


@pytest.fixture
def parse(tmp_path):
    """Parse a document with this body, and further parts by their type and id ("header:r1")."""

    def parse(*body: str, title: str = "", **parts: str) -> Parsed:
        targets = {key.replace("_", ":"): f"{key}.xml" for key in parts}
        members = {
            "_rels/.rels": relations({"officeDocument": "word/document.xml", "core-properties": "core.xml"}),
            "core.xml": core_properties(title, "Berta Olm"),
            "word/document.xml": xml("w:document", f"<w:body>{''.join(body)}</w:body>"),
            "word/_rels/document.xml.rels": relations(targets),
        }
        members |= {f"word/{key}.xml": part for key, part in parts.items()}
        return docx.parse(write_parts(tmp_path / "a.docx", members))

    return parse


@pytest.fixture(scope="module")
def parser():
    parser = Parser()
    yield parser
    parser.close()
