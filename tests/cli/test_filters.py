"""`--where`, and the fields that filters can name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.command import RunCommand


def test_search_finds_only_what_passes_and_shows_why(ragx: RunCommand, index: Path) -> None:
    arguments = ["search", "sunlight red", "--index", str(index), "--method", "bm25"]
    everything = json.loads(ragx(*arguments, "--json").out)["hits"]
    assert {hit["document"] for hit in everything} == {"snow.md", "soil.txt", "deep/sea.rst"}
    assert all(hit["metadata"]["modified"] for hit in everything)
    where = 'folder == "deep" or format in ["md"] and modified > 2000-01'
    found = json.loads(ragx(*arguments, "--where", where, "--json").out)["hits"]
    assert {hit["document"] for hit in found} == {"snow.md", "deep/sea.rst"}
    shown = ragx(*arguments, "--where", where).out
    assert "folder: deep; format: rst; modified: 2" in shown
    assert "format: markdown, md; modified: 2" in shown


def test_fields_are_listed_with_examples(ragx: RunCommand, index: Path) -> None:
    fields = json.loads(ragx("index", "fields", "--index", str(index), "--json").out)
    assert fields["folder"] == {"passages": 1, "types": ["list"], "examples": [["deep"]]}
    assert fields["position"] == {"passages": 4, "types": ["number"], "examples": [0]}
    assert fields["modified"]["types"] == ["text"]
    assert "page" not in fields  # no passage has one
    assert (
        'path                     4 passages  text: "deep/sea.rst"'
        in ragx("index", "fields", "--index", str(index)).out
    )


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("year > 2020", "no field 'year'; its fields: document, folder, format, headings, modified, page"),
        ("page >", "where: 'page >' is incomplete"),
        ("page =~ '(a+)+$'", "where: cannot read '~"),
        ("not " * 5000 + "page = 1", "at most 10,000 characters"),
        ("", "is incomplete"),
    ],
)
@pytest.mark.parametrize("command", ["search", "ask"])
def test_a_mistaken_filter_is_one_line(ragx: RunCommand, index: Path, command: str, where: str, message: str) -> None:
    model = ["--model", "no-such-model"] if command == "ask" else []  # it is not looked for before
    run = ragx(command, "sunlight", "--index", str(index), "--method", "bm25", "--where", where, *model)
    assert run.code == 2
    assert message in run.err
    assert run.err.count("\n") == 1
    assert not run.out
