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
    "markdown-it-py",
    "mwparserfromhell",
    "olefile",
    "pyarrow",
    "pylatexenc",
    "pypdfium2",
    "python-calamine",
    "PyYAML",
    "tokenizers",
)
_OPTIONAL_LIBRARIES = (
    "rapidocr",
    "tree-sitter",
    *sorted({f"tree-sitter-{grammar.partition('.')[0].replace('_', '-')}" for grammar in GRAMMARS.values()}),
)


@functools.cache
def parsing_version() -> str:
    """SHA-256 of the code that reads, parses and chunks, and of the versions of Python and its libraries, in hex."""
    versions = [platform.python_version(), *map(version, _LIBRARIES), *map(_optional_version, _OPTIONAL_LIBRARIES)]
    digest = hashlib.sha256(" ".join(versions).encode())
    folder = Path(__file__).parent
    readers = [folder.parent / "util" / name for name in ("compressed.py", "jsonlines.py")]
    for path in [*sorted(folder.rglob("*.py")), *readers]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _optional_version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "-"
