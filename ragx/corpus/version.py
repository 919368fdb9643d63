"""The version of the code that parses and chunks: another version may give other passages."""

from __future__ import annotations

import functools
import hashlib
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = (
    "charset-normalizer",
    "lxml",
    "lxml_html_clean",
    "mammoth",
    "mwparserfromhell",
    "pyarrow",
    "pypdfium2",
    "tokenizers",
    "trafilatura",
)
_OPTIONAL = ("rapidocr",)


@functools.cache
def parsing_version() -> str:
    """SHA-256 of this package's code and of the versions of Python and of the libraries that parse, in hexadecimal."""
    versions = [platform.python_version(), *map(version, _LIBRARIES)]
    for library in _OPTIONAL:
        with suppress(PackageNotFoundError):
            versions.append(version(library))
    digest = hashlib.sha256(" ".join(versions).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
