"""Mails as RFC 5322 and MIME describe them: what `.eml` files and mailboxes hold."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import partial

from ragx.corpus.document import one_line
from ragx.corpus.extract.attachments import Attachments
from ragx.corpus.extract.html import decode, parse_markup
from ragx.corpus.extract.parsed import Parsed, TextBuilder

_HEADER_CHARS = 10_000
_NAMED_ATTACHMENTS = 20
_PLAIN_SHARE = 0.5
"""A plain text with a smaller share of the HTML's words only says that the mail is in HTML."""
_ENCRYPTED = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")
_SIGNATURES = ("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature")


@dataclass
class Mail:
    """What a mail file holds, whatever its format."""

    subject: str = ""
    people: dict[str, str] = field(default_factory=dict)
    """By "from", "to" and "cc"."""
    date: str = ""
    """ISO 8601."""
    bodies: list[Parsed] = field(default_factory=list)
    """The parts of the text, in order; those with a title are mails inside the mail."""
    attachments: list[tuple[str, Callable[[], bytes]]] = field(default_factory=list)
    """Names, and functions that give the contents."""
    unread: list[str] = field(default_factory=list)
    """One line for each text that could not be read."""


def parse_mail(data: bytes, attachments: Attachments | None = None) -> Parsed:
    """A mail: its subject as title, its text, and who sent it to whom and when. `attachments`: gets the attachments."""
    attachments = attachments or Attachments()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", errors="replace").encode()
    elif b"\0" in data[:4]:
        data = data.decode("utf-16-be" if data.startswith(b"\0") else "utf-16-le", errors="replace").encode()
    message = message_from_bytes(data)
    mail = Mail(
        subject=header(message, "subject"),
        people={name: value for name in ("from", "to", "cc") if (value := header(message, name))},
        date=_iso_date(header(message, "date")),
    )
    _read_parts(message, mail, attachments)
    return mail_document(mail, attachments)


def mail_document(mail: Mail, attachments: Attachments) -> Parsed:
    """The document of a mail. Its text begins with the people and the date."""
    text = TextBuilder()
    fields = mail.people | ({"date": mail.date} if mail.date else {})
    if any(body.text for body in mail.bodies):
        for name, value in fields.items():
            text.add(f"{name.capitalize()}: {value}", "\n")
    for body in mail.bodies:
        if body.title:
            text.heading(body.title, 1)
        text.add_page(body)
    missing = list(mail.unread)
    unread = [name for name, read in mail.attachments if not attachments.write(name, read)]
    if count := len(unread):
        names = ", ".join(unread[:_NAMED_ATTACHMENTS]) + ", …" * (count > _NAMED_ATTACHMENTS)
        missing.append(f"{count} attachment{'s were' if count > 1 else ' was'} not read: {names}")
    return Parsed(
        text.text, mail.subject, text.headings, metadata={**fields}, missing=missing, attached=attachments.files
    )


def best_body(plain: str, html: str) -> Parsed:
    """The text of a mail that may have it in both forms."""
    if not html.strip():
        return Parsed(plain)
    page = parse_markup(html, whole=True)
    page.title = ""
    return Parsed(plain) if len(plain.split()) >= _PLAIN_SHARE * len(page.text.split()) else page


def header(message: Message, name: str) -> str:
    """The text of a header, in one line."""
    value = next((str(value) for key, value in message.raw_items() if key.lower() == name), "")[:_HEADER_CHARS]
    if not value.isascii():  # bytes that are not ASCII, as many programs write
        value = decode(value.encode(errors="surrogateescape"), "cp1252").text
    try:
        text = str(make_header(decode_header(value)))
    except (MessageError, LookupError, ValueError):
        text = value
    return one_line(text, 1000)


def _iso_date(text: str) -> str:
    try:
        return parsedate_to_datetime(text).isoformat()
    except (ValueError, IndexError, OverflowError):
        return text


def _read_parts(message: Message, mail: Mail, attachments: Attachments) -> None:
    """Sort the parts of a message into text and attachments."""
    kind = message.get_content_type()
    if kind in _ENCRYPTED:
        mail.unread.append("its text is encrypted or signed: save it decrypted from a mail program")
    elif kind == "multipart/alternative":
        _read_alternatives(_parts(message), mail, attachments)
    elif kind == "message/rfc822":
        for inner in _parts(message):
            forwarded = parse_mail(inner.as_bytes(), attachments)
            forwarded.title = forwarded.title or "Forwarded mail"
            mail.unread += forwarded.missing
            mail.bodies.append(forwarded)
    elif message.is_multipart():
        for part in _parts(message):
            _read_parts(part, mail, attachments)
    elif kind in ("text/plain", "text/html") and message.get_content_disposition() != "attachment":
        text, notices = _text(message)
        mail.unread += notices
        mail.bodies.append(best_body("", text) if kind == "text/html" else Parsed(text))
    elif kind not in _SIGNATURES and not (kind.startswith("image/") and _is_inline(message)):
        mail.attachments.append((_file_name(message), partial(_payload, message)))


def _read_alternatives(parts: Sequence[Message], mail: Mail, attachments: Attachments) -> None:
    """Read the best of several forms of the same text; what comes with a form, such as attachments, is read as well."""
    forms: dict[str, Mail] = {}
    for part in parts:
        form = Mail()
        _read_parts(part, form, attachments)
        mail.attachments += form.attachments if part.get_content_maintype() == "multipart" else []
        mail.unread += form.unread
        if form.bodies:
            kinds = [inner.get_content_type() for inner in part.walk()]
            forms["html" if "text/html" in kinds else "plain"] = form
    plain, html = (forms.get(kind, Mail()).bodies for kind in ("plain", "html"))
    counts = [sum(len(body.text.split()) for body in bodies) for bodies in (plain, html)]
    mail.bodies += plain if counts[0] and counts[0] >= _PLAIN_SHARE * counts[1] else html


def _parts(message: Message) -> list[Message]:
    payload = message.get_payload()
    return [part for part in payload if isinstance(part, Message)] if isinstance(payload, list) else []


def _text(part: Message) -> tuple[str, tuple[str, ...]]:
    """The text of a part in its character set, or in the one that its bytes suggest, and what could not be decoded."""
    decoded = decode(_payload(part), str(part.get_content_charset("")))
    if str(part.get_param("format", "")).lower() != "flowed":
        return decoded.text, decoded.notices
    delete_space = str(part.get_param("delsp", "")).lower() == "yes"
    return "\n".join(_unflowed(decoded.text, delete_space)), decoded.notices


def _payload(part: Message) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _unflowed(text: str, delete_space: bool) -> Iterator[str]:
    """Lines in which those that end with a space are joined to the next (RFC 3676)."""
    parts: list[str] = []
    for line in text.split("\n"):
        line = line.rstrip("\r").removeprefix(" ") if not line.startswith(">") else line.rstrip("\r")
        if line.endswith(" ") and line != "-- ":
            parts.append(line[:-1] if delete_space else line)
        else:
            yield "".join([*parts, line])
            parts.clear()
    if parts:
        yield "".join(parts)


def _is_inline(part: Message) -> bool:
    return part.get_content_disposition() != "attachment" or "content-id" in part


def _file_name(part: Message) -> str:
    with suppress(MessageError, LookupError, ValueError):
        name = str(make_header(decode_header(part.get_filename(""))))
        return one_line(re.sub(r"[\ud800-\udfff]", "\ufffd", name), 100) or part.get_content_type()
    return part.get_content_type()
