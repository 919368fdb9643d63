"""Mailboxes (.mbox): many mails in one file, streamed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from hashlib import blake2b
from pathlib import Path

from ragx.corpus.extract.attachments import Attachments
from ragx.corpus.extract.mail import header, parse_mail
from ragx.corpus.extract.parsed import Parsed, UnreadableError

MAX_MAIL_BYTES = 64 << 20
_LINE_BYTES = 1 << 16
_START = re.compile(rb"From .*\d\d:\d\d")
_QUOTED_START = re.compile(rb"(?m)^>(>*From )")


def read_mails(path: Path, attachments: str = "") -> Iterator[Parsed]:
    """The mails, named by their ids, or by their numbers where an id is missing or repeated.

    `attachments`: as in `eml.parse`.

    Raises:
        UnreadableError: the file does not begin as a mailbox does.
    """
    seen: set[bytes] = set()
    for number, data in enumerate(split_mails(path), 1):
        if len(data) > MAX_MAIL_BYTES:
            yield Parsed("", name=str(number), missing=[f"mail {number} is larger than {MAX_MAIL_BYTES >> 20} MB"])
            continue
        data = _QUOTED_START.sub(rb"\1", data)
        try:
            folder = attachments and str(Path(attachments, str(number)))
            mail = parse_mail(data, Attachments(folder, path.stat().st_mtime))
        except MemoryError:
            raise
        except Exception as error:  # a mail that cannot be parsed costs itself
            mail = Parsed("", missing=[f"cannot be parsed: {type(error).__name__}: {error}"])
        mail.missing = [f"mail {number}: {reason}" for reason in mail.missing]
        id = header(message_from_bytes(data[: data.find(b"\n\n") + 1]), "message-id").strip("<>")
        key = blake2b(id.encode(errors="replace"), digest_size=16).digest()
        mail.name = id if id and len(id) <= 200 and key not in seen else str(number)
        seen.add(key)
        yield mail


def split_mails(path: Path) -> Iterator[bytes]:
    """The bytes of each mail. A mail that is too large is cut one byte behind the limit."""
    lines: list[bytes] = []
    size = 0
    blank = True
    started = False
    with path.open("rb") as file:
        while line := file.readline(_LINE_BYTES):
            if blank and _START.match(line):
                if started:
                    yield b"".join(lines)
                lines, size, started = [], 0, True
            elif not started:
                if line.strip():
                    raise UnreadableError(
                        "is not a mailbox: it does not begin with a line such as 'From ida@example.org Sat …'"
                    )
            elif size <= MAX_MAIL_BYTES:
                line = line[: MAX_MAIL_BYTES + 1 - size]
                lines.append(line)
                size += len(line)
            blank = not line.strip()
    if started:
        yield b"".join(lines)
