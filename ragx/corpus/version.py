"""The version of the code that parses and chunks: another version may give other passages."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = (
    "chardet",
    "lxml",
    "lxml_html_clean",
    "mammoth",
    "mwparserfromhell",
    "pyarrow",
    "pypdf",
    "tokenizers",
    "trafilatura",
)


@functools.cache
def parsing_version() -> str:
    """SHA-256 of this package's code and of the versions of Python and of the libraries that parse, in hexadecimal."""
    digest = hashlib.sha256(" ".join([platform.python_version(), *map(version, _LIBRARIES)]).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
