"""LaTeX files: the text without commands, formulas as they are written, sections as headings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ragx.corpus.document import Heading
from ragx.corpus.extract.parsed import Parsed, TextBuilder, UnreadableError
from ragx.corpus.extract.source import read_source

_SECTIONS = ("part", "chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph")
_METADATA = ("title", "author", "date")
_LISTING = re.compile(r"\\(begin|end)\{(?:Verbatim|lstlisting|minted|alltt)\*?\}")
_MATH = {"equation", "align", "gather", "multline", "eqnarray", "math", "displaymath", "flalign", "alignat"}
_BEGIN_OR_END = re.compile(r"\A\\begin\{[^{}]*\}(\[[^\]\n]*\])?(\{\w*\})?[ \t]*|\s*\\end\{[^{}]*\}\Z")
_COMMENTS = ("comment", "filecontents", "filecontents*", "tikzpicture")
_TABLES = {"tabular", "tabularx", "tabulary", "longtable", "array"}
_SILENT = ("label", "index", "pagestyle", "thispagestyle", "vspace", "hspace", "includegraphics", "centering", "input")
_NOTES = ("footnote", "footnotetext", "thanks")
_CITES = (
    *("cite", "citep", "citet", "citealp", "parencite", "textcite", "autocite", "nocite"),
    *("ref", "eqref", "autoref", "cref", "Cref", "pageref"),
)


def parse(path: Path) -> Parsed:
    """The text of the document without its preamble; the title, author and date that it names.

    Raises:
        UnreadableError: it is nested too deeply.
    """
    source, missing = read_source(path)
    try:
        nodes = _nodes(source)
        writer = _Writer()
        writer.find_metadata(nodes)
        body = next((node.nodelist for node in nodes if _environment(node) == "document"), nodes)
        writer.write(body)
    except RecursionError:
        raise UnreadableError("is nested too deeply") from None
    text, metadata = writer.text, writer.metadata
    levels = sorted({heading.level for heading in text.headings})
    headings = [Heading(heading.start, levels.index(heading.level) + 1, heading.text) for heading in text.headings]
    return Parsed(text.text, metadata.pop("title", ""), headings, metadata=dict(metadata), missing=missing)


def _nodes(source: str) -> list[Any]:
    from pylatexenc.latexwalker import LatexWalker, get_default_latex_context_db
    from pylatexenc.macrospec import EnvironmentSpec, MacroSpec

    context = get_default_latex_context_db()
    context.add_context_category(
        "ragx",
        prepend=True,
        macros=[
            MacroSpec("href", "{{"),
            *(MacroSpec(name, "[[{") for name in _CITES),
            MacroSpec("newcommand", "*{[[{"),
            MacroSpec("bibitem", "[{"),
            MacroSpec("thanks", "{"),
        ],
        environments=[EnvironmentSpec("thebibliography", "{")],
    )
    for name in _COMMENTS:
        first, *rest = source.split(rf"\begin{{{name}}}")
        ends = [part.partition(rf"\end{{{name}}}") for part in rest]
        source = first + "".join(after if end else before for before, end, after in ends)
    source = _LISTING.sub(r"\\\1{verbatim}", source)  # the one that pylatexenc knows
    nodes, *_ = LatexWalker(source, latex_context=context, tolerant_parsing=True).get_latex_nodes()
    return list(nodes)


def _environment(node: Any) -> str:
    return str(getattr(node, "environmentname", "") or "").rstrip("*")


def _argument(node: Any) -> Any:
    """The last argument of a macro; None without."""
    arguments = node.nodeargd.argnlist if node.nodeargd else None
    return arguments[-1] if arguments else None


def _last(node: Any, l2tobj: Any) -> str:
    """The text of a macro's last argument; pylatexenc names the parameters."""
    return str(l2tobj.nodelist_to_text([_argument(node)]))


class _Writer:
    """Writes nodes of LaTeX as text."""

    def __init__(self) -> None:
        from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db

        context = get_default_latex_context_db()
        context.add_context_category(
            "ragx",
            prepend=True,
            macros=[
                *(MacroTextSpec(name, "") for name in _SILENT),
                *(MacroTextSpec(name, lambda node, l2tobj: f" ({_last(node, l2tobj)})") for name in _NOTES),
                *(MacroTextSpec(name, lambda node, l2tobj: f"[{_last(node, l2tobj)}]") for name in _CITES),
                MacroTextSpec("bibitem", lambda node, l2tobj: f"[{_last(node, l2tobj)}] "),
                MacroTextSpec("href", _last),
                MacroTextSpec("verb", _last),
                MacroTextSpec("textcolor", _last),
                MacroTextSpec("newcommand", ""),
                MacroTextSpec("maketitle", ""),
                MacroTextSpec("and", ";"),
            ],
        )
        self._converter = LatexNodes2Text(latex_context=context, math_mode="verbatim", strict_latex_spaces=False)
        self.text = TextBuilder()
        self.metadata: dict[str, str] = {}

    def find_metadata(self, nodes: Iterable[Any]) -> None:
        """Note the first title, author and date."""
        for node in nodes:
            name = getattr(node, "macroname", "")
            if name in _METADATA and name not in self.metadata and (argument := _argument(node)) is not None:
                parts = [part for part in argument.nodelist or () if getattr(part, "macroname", "") not in _NOTES]
                if value := " ".join(self._plain(parts).split()):
                    self.metadata[name] = "; ".join(part.strip() for part in value.split(";"))  # authors
            elif _environment(node) == "document":
                self.find_metadata(node.nodelist)

    def write(self, nodes: Iterable[Any]) -> None:
        """Append nodes; sections and environments are blocks of their own."""
        run: list[Any] = []
        for node in nodes:
            environment, macro = _environment(node), getattr(node, "macroname", "")
            if macro in _METADATA:
                continue
            if macro not in _SECTIONS and not environment:
                run.append(node)
                continue
            self._add(self._plain(run))
            run = []
            if environment == "verbatim" or environment in _MATH:
                self.text.add(_BEGIN_OR_END.sub("", node.latex_verbatim()))
            elif environment in _TABLES:
                self._table(node.nodelist)
            elif environment:
                self.write(node.nodelist)
            elif (argument := _argument(node)) is not None:
                self.text.heading(self._plain([argument]), _SECTIONS.index(macro) + 1)
        self._add(self._plain(run))

    def _table(self, nodes: Iterable[Any]) -> None:
        """A line a row, with " | " between its cells."""
        from pylatexenc.latexwalker import LatexSpecialsNode

        rows: list[list[list[Any]]] = [[[]]]
        for node in nodes:
            if isinstance(node, LatexSpecialsNode) and node.specials_chars == "&":
                rows[-1].append([])
            elif getattr(node, "macroname", "") in ("\\", "tabularnewline"):
                rows.append([[]])
            elif not re.fullmatch(r"[hc]line|(top|mid|bottom|cmid)rule", getattr(node, "macroname", "") or ""):
                rows[-1][-1].append(node)
        lines = [[" ".join(self._plain(cell).split()) for cell in row] for row in rows]
        self._add("\n".join(" | ".join(line) for line in lines if any(line)))

    def _add(self, block: str) -> None:
        self.text.add(re.sub(r"\n[ \t]*\n\s*", "\n\n", block.strip()))

    def _plain(self, nodes: list[Any]) -> str:
        try:
            return str(self._converter.nodelist_to_text(nodes))
        except (IndexError, AttributeError, TypeError, ValueError, KeyError):  # a macro without its arguments
            if len(nodes) > 1:
                return "".join(self._plain([node]) for node in nodes)
            return str(nodes[0].latex_verbatim()) if nodes and nodes[0] is not None else ""
