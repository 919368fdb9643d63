"""Text in the drawings of Microsoft's formats: shapes, charts and SmartArt (DrawingML)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ragx.corpus.extract.office.equation import equation_text
from ragx.corpus.extract.office.package import Package, attribute, child, local
from ragx.corpus.extract.parsed import CELL_SEPARATOR, REPEATED_CHARS


def paragraph_text(paragraph: Any) -> str:
    """The text of an `a:p`."""
    parts = []
    for element in paragraph:
        match local(element):
            case "r":
                parts.append(element.findtext("{*}t") or "")
            case "fld" if attribute(element, "type") != "slidenum":
                parts.append(element.findtext("{*}t") or "")
            case "br":
                parts.append("\n")
            case "m" | "oMath" | "oMathPara":
                parts.append(equation_text(element))
            case "AlternateContent":
                parts.append(next(filter(None, map(paragraph_text, element)), ""))
    return "".join(parts)


def body_text(body: Any) -> str:
    """The paragraphs of a text body (`a:txBody` or anything else that holds some), a line each."""
    return "\n".join(filter(str.strip, map(paragraph_text, body.iter("{*}p"))))


def table_rows(table: Any) -> Iterator[str]:
    """The rows of an `a:tbl`, a line each. A cell that is merged over rows is repeated in each."""
    above: dict[int, str] = {}
    for row in table.iterfind("{*}tr"):
        texts = []
        for column, cell in enumerate(row.iterfind("{*}tc")):
            if attribute(cell, "hMerge") in ("1", "true"):
                continue
            if attribute(cell, "vMerge") in ("1", "true"):
                texts.append(above.get(column, ""))
            else:
                texts.append(" ".join(body_text(cell).split()))
                above[column] = texts[-1] if attribute(cell, "rowSpan") and len(texts[-1]) <= REPEATED_CHARS else ""
        if any(texts):
            yield CELL_SEPARATOR.join(texts)


def related_text(package: Package, part: str, graphic: Any) -> Iterator[str]:
    """The text of charts and SmartArt that an element of `part` refers to."""
    for element in graphic.iter("{*}chart", "{*}relIds"):
        id = attribute(element, "id") if local(element) == "chart" else attribute(element, "dm")
        _, target = package.relations(part).get(id, ("", ""))
        if target in package:
            root = package.xml(target)
            yield chart_text(root) if local(element) == "chart" else diagram_text(root)


def diagram_text(root: Any) -> str:
    """The texts of SmartArt, a line each."""
    return "\n".join(filter(None, (body_text(point) for point in root.iter("{*}pt"))))


def chart_text(root: Any) -> str:
    """The titles of a chart and its axes, then for each series "name: category value, …" and labels of its own."""
    lines = [body_text(title).replace("\n", " ") for title in root.iter("{*}title")]
    for series in root.iter("{*}ser"):
        name = ", ".join(_points(child(series, "tx")).values())
        categories = _points(child(series, "cat")) or _points(child(series, "xVal"))
        values = _points(child(series, "val")) or _points(child(series, "yVal"))
        pairs = ", ".join(f"{categories.get(index, '')} {value}".strip() for index, value in values.items())
        lines.append(": ".join(filter(None, (name, pairs))))
        lines += map(body_text, series.iter("{*}dLbl"))
    return "\n".join(filter(None, lines))


def _points(data: Any) -> dict[str, str]:
    """The cached values by their index."""
    if data is None:
        return {}
    points = {point.get("idx", ""): (point.findtext("{*}v") or "").strip() for point in data.iter("{*}pt")}
    if not points and (value := data.findtext("{*}v")):
        points["0"] = value
    return points
