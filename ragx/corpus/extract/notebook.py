"""Jupyter notebooks: Markdown, code in fences and the text of outputs, in the order of the cells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ragx.corpus.document import Heading
from ragx.corpus.extract.front_matter import split_front_matter
from ragx.corpus.extract.markdown import outline
from ragx.corpus.extract.parsed import Parsed, TextBuilder, UnreadableError, clean
from ragx.corpus.extract.source import read_source
from ragx.corpus.metadata import plain_fields

MAX_OUTPUT_CHARS = 10_000
"""Longer outputs are cut: they are mostly logs."""
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[ \t]*\r(?!\n)")


def parse(path: Path) -> Parsed:
    """The text. The title is the notebook's, else its first heading.

    Raises:
        UnreadableError: it is not a notebook.
    """
    source, missing = read_source(path)
    try:
        notebook = json.loads(source.lstrip("\ufeff"))
        sheets = notebook.get("worksheets", [notebook])  # version 3
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
        metadata: dict[str, Any] = notebook.get("metadata", {})
        kernel: dict[str, Any] = metadata.get("kernelspec", {})
        language = str(metadata.get("language_info", kernel).get("name", "") or kernel.get("language", ""))
        text, headings, cut = TextBuilder(), [], 0
        fields: dict[str, object] = {}
        for number, cell in enumerate(cells):
            body = _joined(cell.get("source", cell.get("input", "")))
            if cell["cell_type"] == "code":
                text.add(f"```{language}\n{body.strip(chr(10))}\n```" if body.strip() else "")
                for output in cell.get("outputs", ()):
                    said = _ESCAPE.sub("", _output(output)).rstrip()
                    cut += len(said) > MAX_OUTPUT_CHARS
                    text.add(said[:MAX_OUTPUT_CHARS], "\n\n")
            elif cell["cell_type"] == "raw" and number:
                text.add(body)
            else:
                if not number:
                    fields, body, _ = split_front_matter(body)
                markdown, found = outline(clean(body).strip("\n"))
                text.add(markdown)
                start = len(text) - len(markdown)
                headings += [Heading(start + heading.start, heading.level, heading.text) for heading in found]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"is not a Jupyter notebook, or it is damaged: {error}") from None
    if cut:
        missing.append(f"{cut} outputs are longer than {MAX_OUTPUT_CHARS:,} characters: their rest was left out")
    title = str(fields.pop("title", "") or metadata.get("title", "") or next((found.text for found in headings), ""))
    return Parsed(text.text, title, headings, metadata=plain_fields({"language": language}) | fields, missing=missing)


def _joined(lines: object) -> str:
    if isinstance(lines, list):
        return "".join(map(str, lines))
    return lines if isinstance(lines, str) else ""


def _output(output: dict[str, Any]) -> str:
    """The text of an output: what was printed, a result as plain text, or an error."""
    match output.get("output_type"):
        case "stream":
            return _joined(output.get("text"))
        case "error" | "pyerr":
            return f"{output.get('ename', '')}: {output.get('evalue', '')}"
        case _:
            data = output.get("data", output)
            return _joined(data.get("text/markdown") or data.get("text/plain") or data.get("text"))
