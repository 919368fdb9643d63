"""The version of the code that parses and chunks: another version may give other passages."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = (
    "charset-normalizer",
    "lxml",
    "mwparserfromhell",
    "olefile",
    "pyarrow",
    "pypdf",
    "python-calamine",
    "tokenizers",
)


@functools.cache
def parsing_version() -> str:
    """SHA-256 of the code that reads, parses and chunks, and of the versions of Python and its libraries, in hex."""
    digest = hashlib.sha256(" ".join([platform.python_version(), *map(version, _LIBRARIES)]).encode())
    folder = Path(__file__).parent
    readers = [folder.parent / "util" / name for name in ("compressed.py", "jsonlines.py")]
    for path in [*sorted(folder.rglob("*.py")), *readers]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
