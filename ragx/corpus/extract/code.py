"""Source code: the file as it is, with its classes and functions as headings.

They are found by tree-sitter's grammars, which `ragx[code]` installs. Without them there are no headings.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.corpus.document import Heading
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.source import read_source

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

GRAMMARS = {
    ".py": "python",
    ".pyi": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".jsx": "javascript",
    ".ts": "typescript",
    ".tsx": "typescript.tsx",
    ".go": "go",
    ".java": "java",
    ".c": "c",
    ".h": "cpp",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".hh": "cpp",
    ".hpp": "cpp",
    ".rs": "rust",
    ".rb": "ruby",
    ".sh": "bash",
    ".bash": "bash",
    ".cs": "c_sharp",
    ".php": "php",
}
"""Suffix -> name of the grammar's package, and of its function where it has several languages."""
MAX_PARSED_BYTES = 1 << 20
"""Larger files, which are mostly generated, have no headings."""
MAX_LEVEL = 4
_KINDS = ("class", "function", "method", "struct", "interface", "enum", "trait", "impl", "mod", "namespace", "record")
_ENDS = ("_definition", "declaration", "_item", "_specifier", "_spec")
_WHOLE = ("class", "module", "method", "singleton_method")
_WRAPPERS = ("export_statement", "decorated_definition", "template_declaration")


def parse(path: Path) -> Parsed:
    """The source. A heading is the name of a class or function, at the line where its definition begins."""
    text, missing = read_source(path)
    text = text.strip("\n").rstrip()
    headings: list[Heading] = []
    parser = _parser(path.suffix.lower())
    source = text.encode()
    if parser is not None and len(source) <= MAX_PARSED_BYTES:
        starts = _line_starts(text)
        seen: set[int] = set()
        for line, level, name in _definitions(parser.parse(source).root_node):
            if line not in seen:
                seen.add(line)
                headings.append(Heading(starts[line], level, name))
    return Parsed(text, path.name, headings, missing=missing)


def _parser(suffix: str) -> Parser | None:
    package, _, variant = GRAMMARS.get(suffix, "").partition(".")
    if not package:
        return None
    try:
        from tree_sitter import Language, Parser

        grammar = import_module(f"tree_sitter_{package}")
    except ImportError:
        return None
    names = [f"language_{variant or package}", "language"]
    language = next(getattr(grammar, name) for name in names if hasattr(grammar, name))
    return Parser(Language(language()))


def _definitions(root: Node) -> Iterator[tuple[int, int, str]]:
    """Line, level and name of each class or function, in order."""
    stack = [(child, 1, child.start_point.row) for child in reversed(root.named_children)]
    while stack:
        node, level, line = stack.pop()
        name = _name(node)
        if name:
            yield line, level, name
            level += 1
        if level > MAX_LEVEL:
            continue
        wraps = node.type in _WRAPPERS
        for child in reversed(node.named_children):
            row = child.start_point.row
            if child.end_point.row > row or child.type.endswith((*_ENDS, *_WRAPPERS, *_WHOLE, "variable_declarator")):
                stack.append((child, level, line if wraps else row))


def _name(node: Node) -> str:
    """The name that a node defines; empty if it defines neither a class nor a function with a body."""
    kind = node.type
    if kind == "variable_declarator":  # const f = () => …
        value = node.child_by_field_name("value")
        if value is None or value.type not in ("arrow_function", "function_expression", "function", "class"):
            return ""
    elif kind not in _WHOLE and not (kind.startswith(_KINDS) and kind.endswith(_ENDS)) and kind != "type_spec":
        return ""
    name = node.child_by_field_name("type" if kind == "impl_item" else "name")
    declarator = node.child_by_field_name("declarator")
    while name is None and declarator is not None:  # C and C++
        name = None if declarator.child_by_field_name("declarator") else declarator
        declarator = declarator.child_by_field_name("declarator")
    if kind.endswith("_specifier") and node.child_by_field_name("body") is None:  # a mention: struct point p
        return ""
    text = name.text.decode(errors="replace") if name is not None and name.text else ""
    return " ".join(text.split())[:200]


def _line_starts(text: str) -> list[int]:
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts
