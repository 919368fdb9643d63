"""Mails in `.eml`, `.mbox` and `.msg` files: who wrote what to whom, and what was not read of it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ragx.corpus.extract import eml, msg
from ragx.corpus.extract.mail import parse_mail
from ragx.corpus.extract.mbox import read_mails
from ragx.corpus.extract.parsed import UnreadableError
from tests.helpers.ole import ole_file

HEAD = b"From: Ida Berg <ida@example.org>\nTo: bo@example.org\nDate: Sat, 5 Oct 2024 12:34:56 +0200\nSubject: Snow\n"
HEADER_LINES = "From: Ida Berg <ida@example.org>\nTo: bo@example.org\nDate: 2024-10-05T12:34:56+02:00\n\n"


def body(data: bytes) -> str:
    return parse_mail(HEAD + data).text.removeprefix(HEADER_LINES)


def part(kind: str, text: str, extra: str = "") -> str:
    return f"--b\nContent-Type: {kind}\n{extra}\n{text}\n"


def multipart(kind: str, *parts: str) -> bytes:
    return f'Content-Type: multipart/{kind}; boundary="b"\n\n{"".join(parts)}--b--\n'.encode()


def test_a_plain_mail():
    mail = parse_mail(HEAD + b"\nIt snows.\n\n> Does it?\n")
    assert mail.title == "Snow"
    assert mail.text == HEADER_LINES + "It snows.\n\n> Does it?"
    assert mail.metadata == {
        "from": "Ida Berg <ida@example.org>",
        "to": "bo@example.org",
        "date": "2024-10-05T12:34:56+02:00",
    }
    assert mail.missing == []


def test_a_mail_without_headers_or_text():
    assert parse_mail(b"Subject: x\n\nhello").text == "hello"
    assert parse_mail(HEAD + b"\n").text == ""
    assert parse_mail(b"").text == ""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Content-Type: text/plain; charset=utf-8\n\ncafé".encode(), "café"),
        ("Content-Type: text/plain; charset=iso-8859-1\n\ncafé".encode("latin-1"), "café"),
        ("Content-Type: text/plain; charset=iso-8859-1\n\ncafé".encode(), "café"),
        ("Content-Type: text/plain; charset=koi8-r\n\nснег".encode("koi8-r"), "снег"),
        ("Content-Type: text/plain; charset=nonsense\n\ncafé".encode(), "café"),
        ("Content-Type: text/plain; charset=gb2312\n\n联通".encode("gb2312"), "联通"),
        (b"Content-Transfer-Encoding: base64\n\nc25vdw==", "snow"),
        (b"Content-Transfer-Encoding: quoted-printable\n\nsn=6F=\nw", "snow"),
        (b"Content-Type: text/plain; format=flowed\n\nsnow \nfalls\n end", "snow falls\nend"),
        (b"Content-Type: text/html\n\n<nav>Menu</nav><ul><li>snow<li>ice</ul>", "Menu\n\n- snow\n- ice"),
    ],
)
def test_forms_of_text(data, text):
    assert body(data) == text


def test_of_two_forms_the_plain_one_is_read_unless_it_says_little():
    html = part("text/html", "<h1>Snow</h1><p>It snows in the mountains today.")
    assert (
        body(multipart("alternative", part("text/plain", "It snows in the mountains."), html))
        == "It snows in the mountains."
    )
    assert (
        body(multipart("alternative", part("text/plain", "HTML only"), html))
        == "Snow\n\nIt snows in the mountains today."
    )
    assert parse_mail(HEAD + multipart("alternative", html)).headings[0].text == "Snow"


def test_all_texts_of_a_mail_are_read_and_attachments_named():
    mail = parse_mail(
        HEAD
        + multipart(
            "mixed",
            part("text/plain", "One."),
            part("application/pdf", "x", 'Content-Disposition: attachment; filename="r=C3=A9.pdf"\n'),
            part("text/plain", "x", "Content-Disposition: attachment; filename*=utf-8''r%C3%A9.txt\n"),
            part("image/png", "x", "Content-ID: <a>\n"),
            part("text/html", "<p>Two."),
            part("application/pgp-signature", "x"),
        )
    )
    assert mail.text.removeprefix(HEADER_LINES) == "One.\n\nTwo."
    assert mail.missing == ["2 attachments were not read: r=C3=A9.pdf, ré.txt"]


def test_a_mail_inside_a_mail_has_its_subject_as_heading():
    inner = "From: Bo\nSubject: Ice\n\nIt melts."
    mail = parse_mail(HEAD + multipart("mixed", part("text/plain", "See below."), part("message/rfc822", inner)))
    assert mail.text.removeprefix(HEADER_LINES) == "See below.\n\nIce\n\nFrom: Bo\n\nIt melts."
    assert [(heading.text, heading.level) for heading in mail.headings] == [("Ice", 1)]


@pytest.mark.parametrize("kind", ["multipart/encrypted", "application/pkcs7-mime"])
def test_an_encrypted_mail_says_so(kind):
    mail = parse_mail(HEAD + f"Content-Type: {kind}\n\nx".encode())
    assert mail.text == ""
    assert "encrypted" in mail.missing[0]


@pytest.mark.parametrize(
    ("subject", "title"),
    [
        (b"=?utf-8?q?Caf=C3=A9?= =?utf-8?q?_au_lait?=", "Café au lait"),
        (b"=?nonsense?q?Caf=C3=A9?=", "=?nonsense?q?Caf=C3=A9?="),
        ("Café".encode(), "Café"),
        ("Café".encode("latin-1"), "Café"),
        (b"two\n lines", "two lines"),
        (b"x =?utf-8?b?!!!?=", "x"),
    ],
)
def test_subjects(subject, title):
    assert parse_mail(b"Subject: " + subject + b"\n\nx").title == title


@pytest.mark.parametrize("date", ["nonsense", "Sat, 99 Oct 99999 99:99:99 +9999", ""])
def test_a_date_that_cannot_be_read_stays_as_it_is(date):
    assert parse_mail(f"Date: {date}\n\nx".encode()).metadata == ({"date": date} if date else {})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_mail_in_utf_16(encoding):
    assert parse_mail((HEAD + b"\nSnow.").decode().encode(encoding)).text == HEADER_LINES + "Snow."


def test_apples_mail_files(tmp_path):
    path = tmp_path / "1.emlx"
    mail = HEAD + b"\nSnow."
    path.write_bytes(b"%d   \n" % len(mail) + mail + b'<?xml version="1.0"?><plist/>')
    assert eml.parse(path).text == HEADER_LINES + "Snow."


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        b"Subject: " + b"=?utf-8?q?a?= " * 200_000 + b"\n\nx",
        b"Subject: " + b"(" * 500_000 + b"\n\nx",
        b"To: " + b"a@b, " * 200_000 + b"\n\nx",
        b"X: y\n" * 200_000 + b"\nx",
        b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n\n" * 50_000,
        b"Content-Type: text/plain; " + b"a=b; " * 20_000 + b"\n\nx",
    ],
)
def test_hostile_mails_are_read(data):
    assert len(parse_mail(data).title) <= 1000


def mailbox(path: Path, *mails: bytes) -> Path:
    path.write_bytes(b"".join(b"From ida@example.org Sat Oct  5 12:34:56 2024\n" + mail + b"\n\n" for mail in mails))
    return path


def test_a_mailbox_is_one_document_a_mail(tmp_path, read):
    id = b"Message-ID: <%s>\n"
    path = mailbox(
        tmp_path / "box.mbox",
        id % b"a@b" + HEAD + b"\nOne.\n>From here on.\nFrom now on.",
        id % b"a@b" + b"\nTwo.",
        b"Subject: Three\n\nThree.\n\nFrom there to here.",
        HEAD + b"Content-Type: multipart/encrypted\n\nx",
    )
    documents, skipped = read(path)
    assert [document.id for document in documents] == ["box.mbox/a@b", "box.mbox/2", "box.mbox/3"]
    assert [document.title for document in documents] == ["Snow", "box", "Three"]
    assert documents[0].text == HEADER_LINES + "One.\nFrom here on.\nFrom now on."
    assert documents[2].text == "Three.\n\nFrom there to here."
    assert '"modified"' in documents[1].metadata
    (reason,) = [entry.reason for entry in skipped]
    assert reason.startswith("mail 4: its text is encrypted")


def test_a_file_that_is_not_a_mailbox_is_skipped(tmp_path, read):
    (tmp_path / "a.mbox").write_text("hello\n")
    documents, (skipped,) = read(tmp_path)
    assert documents == []
    assert skipped.reason.startswith("is not a mailbox")


def test_a_mail_that_is_too_large_costs_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("ragx.corpus.extract.mbox.MAX_MAIL_BYTES", 1 << 20)
    first, second = read_mails(mailbox(tmp_path / "a.mbox", b"\n" + b"x\n" * (1 << 20), b"\nTwo."))
    assert first.missing == ["mail 1 is larger than 1 MB"]
    assert second.text == "Two."


def test_a_mailbox_streams(tmp_path):
    path = mailbox(tmp_path / "a.mbox", *(b"Subject: %d\n\nsnow" % number for number in range(500)))
    assert [mail.title for mail in read_mails(path)] == [str(number) for number in range(500)]


def outlook(path: Path, extra: dict[str, bytes], *, ticks: int = 0) -> Path:
    times = struct.pack("<IIQ", 0x0039_0040, 6, ticks)
    path.write_bytes(ole_file({"__properties_version1.0": bytes(32) + times} | extra))
    return path


def unicode_property(tag: str, text: str) -> dict[str, bytes]:
    return {f"__substg1.0_{tag}001F": text.encode("utf-16-le")}


def test_an_outlook_mail(tmp_path):
    path = outlook(
        tmp_path / "a.msg",
        unicode_property("0037", "Schnee")
        | unicode_property("0C1A", "Ida Berg")
        | unicode_property("5D01", "ida@example.org")
        | unicode_property("0E04", "Bo")
        | unicode_property("1000", "Es schneit.\r\n")
        | {"__attach_version1.0_#00000000/__substg1.0_3707001F": "r.pdf".encode("utf-16-le")}
        | {"__attach_version1.0_#00000001/__substg1.0_3707001F": "logo.png".encode("utf-16-le")}
        | {"__attach_version1.0_#00000001/__substg1.0_3712001F": "cid".encode("utf-16-le")},
        ticks=133_725_296_960_000_000,
    )
    mail = msg.parse(path)
    assert mail.title == "Schnee"
    date = "2024-10-04T15:34:56+00:00"
    assert mail.metadata == {"from": "Ida Berg <ida@example.org>", "to": "Bo", "date": date}
    assert mail.text == f"From: Ida Berg <ida@example.org>\nTo: Bo\nDate: {date}\n\nEs schneit."
    assert mail.missing == ["1 attachment was not read: r.pdf"]


@pytest.mark.parametrize(
    ("properties", "text", "missing"),
    [
        ({"__substg1.0_1000001E": "café".encode("cp1252")}, "café", []),
        ({"__substg1.0_10130102": b"<meta charset=utf-8><p>caf\xc3\xa9"}, "café", []),
        (unicode_property("1013", "<p>snow"), "snow", []),
        ({"__substg1.0_10090102": b"rtf"}, "", ["its text is stored as RTF alone: save it as .eml or .html"]),
        (unicode_property("001A", "IPM.Note.SMIME"), "", ["its text is encrypted"]),
    ],
)
def test_forms_of_text_of_an_outlook_mail(tmp_path, properties, text, missing):
    mail = msg.parse(outlook(tmp_path / "a.msg", properties))
    assert mail.text == text
    assert [reason[: len(expected)] for reason, expected in zip(mail.missing, missing, strict=True)] == missing


@pytest.mark.parametrize("data", [b"", b"hello" * 100, ole_file({"a": b"x"}), ole_file({"a": b"x"})[:600]])
def test_a_file_that_is_not_an_outlook_mail_is_skipped(tmp_path, data):
    path = tmp_path / "a.msg"
    path.write_bytes(data)
    with pytest.raises((UnreadableError, OSError)):
        msg.parse(path)
