"""Mails saved by Outlook (.msg): properties in the streams of an OLE file ([MS-OXMSG])."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from ragx.corpus.extract.attachments import Attachments
from ragx.corpus.extract.html import decode
from ragx.corpus.extract.mail import Mail, best_body, mail_document
from ragx.corpus.extract.parsed import Parsed, UnreadableError

_CLASS, _SUBJECT, _BODY, _HTML, _RTF = "001A", "0037", "1000", "1013", "1009"
_SENDER, _SENDER_ADDRESS, _SMTP_ADDRESS, _TO, _CC = "0C1A", "0C1F", "5D01", "0E04", "0E03"
_LONG_NAME, _SHORT_NAME, _CONTENT_ID = "3707", "3704", "3712"
_DATA = "3701"
_TIMES = (0x0039_0040, 0x0E06_0040)
"""Sent and received."""
_HEAD_BYTES = 4096
_ATTACHMENT = "__attach_version1.0_#"


def parse(path: Path, attachments: str = "") -> Parsed:
    """The mail of a file. `attachments`: as in `eml.parse`.

    Raises:
        UnreadableError: the file is not an Outlook mail, or it is damaged.
    """
    from olefile import OleFileIO, isOleFile

    if not isOleFile(path):
        raise UnreadableError("is not an Outlook mail (.msg), or it is damaged")
    with OleFileIO(path) as file:
        if not file.exists("__properties_version1.0"):
            raise UnreadableError("is not an Outlook mail (.msg), or it is damaged")
        return mail_document(_mail(file), Attachments(attachments, path.stat().st_mtime))


def _mail(file: Any) -> Mail:
    sender = _text(file, _SENDER)
    address = _text(file, _SMTP_ADDRESS) or _text(file, _SENDER_ADDRESS)
    if "@" in address and address != sender:
        sender = f"{sender} <{address}>".strip()
    people = {"from": sender, "to": _text(file, _TO), "cc": _text(file, _CC)}
    mail = Mail(_text(file, _SUBJECT), {name: value for name, value in people.items() if value}, _date(file))
    plain, html = _text(file, _BODY), _text(file, _HTML)
    if plain or html:
        mail.bodies.append(best_body(plain, html))
    elif "SMIME" in _text(file, _CLASS).upper():
        mail.unread.append("its text is encrypted or signed: save it decrypted from a mail program")
    elif _bytes(file, _RTF, "0102"):
        mail.unread.append("its text is stored as RTF alone: save it as .eml or .html")
    folders = sorted({entry[0] for entry in file.listdir() if len(entry) > 1 and entry[0].startswith(_ATTACHMENT)})
    for folder in folders:
        name = _text(file, _LONG_NAME, folder) or _text(file, _SHORT_NAME, folder) or "attachment"
        if not _text(file, _CONTENT_ID, folder) or not name.lower().endswith((".png", ".jpg", ".jpeg", ".gif")):
            mail.attachments.append((name, partial(_bytes, file, _DATA, "0102", folder)))
    return mail


def _text(file: Any, property: str, folder: str = "") -> str:
    """A property that is text, in Unicode, a code page, or bytes."""
    if data := _bytes(file, property, "001F", folder):
        return data.decode("utf-16-le", errors="replace").rstrip("\0")
    data = _bytes(file, property, "001E", folder) or _bytes(file, property, "0102", folder)
    return decode(data.rstrip(b"\0"), "" if b"charset" in data[:_HEAD_BYTES] else "cp1252").text


def _bytes(file: Any, property: str, type: str, folder: str = "") -> bytes:
    name = f"__substg1.0_{property}{type}"
    path = f"{folder}/{name}" if folder else name
    return bytes(file.openstream(path).read()) if file.exists(path) else b""


def _date(file: Any) -> str:
    """When the mail was sent, or else received, from the properties of fixed size: 16 bytes each behind a header."""
    data = file.openstream("__properties_version1.0").read()
    found = {}
    for position in range(32, len(data) - 15, 16):
        tag, _, value = struct.unpack_from("<IIQ", data, position)
        found[tag] = value
    ticks = next((found[tag] for tag in _TIMES if found.get(tag)), 0)
    try:
        return (datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10)).isoformat() if ticks else ""
    except OverflowError:
        return ""
