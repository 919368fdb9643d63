"""Jupyter notebooks."""

from __future__ import annotations

import json

import pytest

from tests.corpus.extract.conftest import headings

NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Snow\n", "\n", "Cafe\u0301 text.\n", "\n", "## Depth"]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["\u001b[31mone\u001b[0m\n"]},
                {"output_type": "execute_result", "data": {"text/plain": ["42"], "image/png": "AAAA"}},
                {"output_type": "error", "ename": "ValueError", "evalue": "no snow", "traceback": ["…"]},
            ],
        },
        {"cell_type": "markdown", "source": "## Melting\nWater."},
        {"cell_type": "code", "source": "", "outputs": []},
    ],
    "metadata": {"language_info": {"name": "python"}, "kernelspec": {"name": "python3"}},
    "nbformat": 4,
}


def test_cells_are_read_in_order(parse):
    document, reasons = parse("a.ipynb", json.dumps(NOTEBOOK))
    assert document.title == "Snow"
    assert document.text == (
        "# Snow\n\nCafé text.\n\n## Depth\n\n```python\nprint(1)\n```\n\none\n\n42\n\nValueError: no snow\n\n"
        "## Melting\nWater."
    )
    assert headings(document) == [(1, "Snow"), (2, "Depth"), (2, "Melting")]
    assert json.loads(document.metadata) == {"language": "python"}
    assert reasons == []


def test_a_notebook_of_version_3(parse):
    cells = [{"cell_type": "markdown", "source": "Snow."}, {"cell_type": "code", "input": ["x = 1"], "outputs": []}]
    document, _ = parse("a.ipynb", json.dumps({"worksheets": [{"cells": cells}], "metadata": {}, "nbformat": 3}))
    assert document.text == "Snow.\n\n```\nx = 1\n```"


def test_front_matter_of_the_first_cell(parse):
    cells = [
        {"cell_type": "raw", "source": "---\ntitle: Ice\nauthor: X\n---"},
        {"cell_type": "markdown", "source": "Text."},
    ]
    document, _ = parse("a.ipynb", json.dumps({"cells": cells, "metadata": {}}))
    assert (document.title, document.text, json.loads(document.metadata)) == ("Ice", "Text.", {"author": "X"})


def test_a_long_output_is_cut_and_reported(parse):
    cell = {"cell_type": "code", "source": "x", "outputs": [{"output_type": "stream", "text": "a" * 20_000}]}
    document, (reason,) = parse("a.ipynb", json.dumps({"cells": [cell], "metadata": {}}))
    assert len(document.text) < 11_000
    assert "1 output" in reason


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"cells": 1}', '{"cells": [1]}', '{"cells": [{}]}', "[" * 100_000]
)
def test_what_is_no_notebook_is_skipped(parse, content):
    document, (reason,) = parse("a.ipynb", content)
    assert document is None
    assert "notebook" in reason or "text" in reason
