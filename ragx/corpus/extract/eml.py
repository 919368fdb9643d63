"""Mail files (.eml, and Apple's .emlx)."""

from __future__ import annotations

import re
from pathlib import Path

from ragx.corpus.extract.attachments import Attachments
from ragx.corpus.extract.mail import parse_mail
from ragx.corpus.extract.parsed import Parsed

_SIZE = re.compile(rb"\s*(\d{1,12})\s*\n")


def parse(path: Path, attachments: str = "") -> Parsed:
    """The mail of a file. `attachments`: folder for its attachments; empty: they are only named."""
    data = path.read_bytes()
    if size := _SIZE.match(data):  # .emlx: the size of the mail, the mail, and a property list
        data = data[size.end() : size.end() + int(size[1])]
    return parse_mail(data, Attachments(attachments, path.stat().st_mtime))
