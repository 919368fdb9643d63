"""The version of the code that parses and chunks: another version may give other passages."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ragx.corpus.extract.code import GRAMMARS

_LIBRARIES = (
    "chardet",
    "lxml",
    "lxml_html_clean",
    "mammoth",
    "markdown-it-py",
    "mwparserfromhell",
    "pyarrow",
    "pylatexenc",
    "pypdf",
    "PyYAML",
    "tokenizers",
    "trafilatura",
)
_OPTIONAL_LIBRARIES = (
    "tree-sitter",
    *sorted({f"tree-sitter-{grammar.partition('.')[0].replace('_', '-')}" for grammar in GRAMMARS.values()}),
)


@functools.cache
def parsing_version() -> str:
    """SHA-256 of this package's code and of the versions of Python and of the libraries that parse, in hexadecimal."""
    versions = [platform.python_version(), *map(version, _LIBRARIES), *map(_optional_version, _OPTIONAL_LIBRARIES)]
    digest = hashlib.sha256(" ".join(versions).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _optional_version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "-"
