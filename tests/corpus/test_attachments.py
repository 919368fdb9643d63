"""Attachments of mails are documents of their own, read within the limits of files."""

from __future__ import annotations

import mailbox
import os
from collections.abc import Iterable
from email.message import EmailMessage
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.helpers.ole import ole_file

CSV = b"Name,Rent\nSand,900\nOlm,800\n"


def mail(*attachments: tuple[str, bytes], text: str = "See the files.") -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Rents"
    message["Message-ID"] = "<1@example.org>"
    message.set_content(text)
    for name, data in attachments:
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message


def ids(documents: Iterable) -> list[str]:
    return [document.id for document in documents]


@pytest.fixture
def pdf(write_pdf, tmp_path: Path) -> bytes:
    return write_pdf(tmp_path / "made.pdf", "Snow is white.", "Ice is blue.").read_bytes()


def test_attachments_are_documents_below_their_mail(read, tmp_path: Path, pdf: bytes) -> None:
    folder = tmp_path / "mails"
    folder.mkdir()
    path = folder / "a.eml"
    path.write_bytes(bytes(mail(("réport.pdf", pdf), ("rents.csv", CSV), ("notes.txt", b"Rain."), ("x.png", b"png"))))
    os.utime(path, (0, 0))
    documents, (skipped,) = read(folder)
    assert ids(documents) == ["a.eml", "a.eml/réport.pdf", "a.eml/rents.csv", "a.eml/notes.txt"]
    assert [document.text for document in documents[2:]] == ["Name: Sand; Rent: 900\nName: Olm; Rent: 800", "Rain."]
    report = documents[1]
    assert report.paged
    assert "Snow is white." in report.text
    assert report.title == "réport"
    assert {document.source for document in documents} == {str(path)}
    assert all('"modified": "1970-01-01T00:00:00+00:00"' in document.metadata for document in documents)
    assert skipped.reason == "1 attachment was not read: x.png"
    assert skipped.partial


def test_a_table_with_ids_and_texts_is_a_table(read, tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(bytes(mail(("rows.csv", b"id,text\n1,Snow.\n"))))
    documents, _ = read(path)
    assert ids(documents) == ["a.eml", "a.eml/rows.csv"]


def test_equal_names_are_told_apart(read, tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(bytes(mail(("a.txt", b"Snow."), ("a.txt", b"Ice."))))
    documents, skipped = read(path)
    assert ids(documents) == ["a.eml", "a.eml/a.txt", "a.eml/2-a.txt"]
    assert not skipped


def test_attachments_in_a_mailbox(read, tmp_path: Path, pdf: bytes) -> None:
    box = mailbox.mbox(tmp_path / "in.mbox")
    for number in range(3):
        message = mail(("r.pdf", pdf), text=f"Mail {number}.")
        message.replace_header("Message-ID", f"<{number}@example.org>")
        box.add(message)
    box.close()
    documents, skipped = read(tmp_path / "in.mbox")
    names = [f"in.mbox/{number}@example.org" for number in range(3)]
    assert ids(documents) == [id for name in names for id in (name, f"{name}/r.pdf")]
    assert {document.source for document in documents} == {str(tmp_path / "in.mbox")}
    assert not skipped


def test_attachments_of_an_outlook_mail(read, tmp_path: Path) -> None:
    path = tmp_path / "a.msg"
    streams = {
        "__properties_version1.0": bytes(48),
        "__substg1.0_1000001F": "Es schneit.".encode("utf-16-le"),
        "__attach_version1.0_#00000000/__substg1.0_3707001F": "notes.txt".encode("utf-16-le"),
        "__attach_version1.0_#00000000/__substg1.0_37010102": b"Rain is wet.",
    }
    path.write_bytes(ole_file(streams))
    documents, skipped = read(path)
    assert [(document.id, document.text) for document in documents][1:] == [("a.msg/notes.txt", "Rain is wet.")]
    assert not skipped


def test_attachments_of_a_forwarded_mail(read, tmp_path: Path) -> None:
    outer = mail(("outer.txt", b"Snow."))
    outer.add_attachment(mail(("inner.txt", b"Ice.")))
    path = tmp_path / "a.eml"
    path.write_bytes(bytes(outer))
    assert ids(read(path)[0]) == ["a.eml", "a.eml/inner.txt", "a.eml/outer.txt"]


def test_attachments_of_a_mail_in_an_archive(read, tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.eml", bytes(mail(("notes.txt", b"Rain."), ("bad.pdf", b"%PDF-1.7 broken"))))
    documents, (skipped,) = read(tmp_path, archives=True)
    assert ids(documents) == ["a.zip/in/a.eml", "a.zip/in/a.eml/notes.txt"]
    assert {document.source for document in documents} == {str(tmp_path / "a.zip")}
    assert skipped.source == f"{tmp_path}/a.zip/in/a.eml/bad.pdf"


def test_an_attachment_that_cannot_be_parsed_costs_itself(read, tmp_path: Path) -> None:
    slow = b"<i>" * 200_000
    path = tmp_path / "a.eml"
    path.write_bytes(bytes(mail(("bad.pdf", b"%PDF-1.7 broken"), ("slow.html", slow), ("notes.txt", b"Rain."))))
    documents, skipped = read(path, limits={"max_seconds": 1.0, "max_memory_bytes": 400 << 20})
    assert ids(documents)[0] == "a.eml"
    assert ids(documents)[-1] == "a.eml/notes.txt"
    assert f"{path}/bad.pdf" in {each.source for each in skipped}
    assert not any(each.unreadable for each in skipped)


def test_mails_in_mails_end(read, tmp_path: Path) -> None:
    inner = mail(("deepest.txt", b"Snow."))
    for number in range(30):
        outer = mail(text=f"Level {number}.")
        outer.add_attachment(
            bytes(inner), maintype="application", subtype="octet-stream", filename="a.eml", cte="base64"
        )
        inner = outer
    path = tmp_path / "a.eml"
    path.write_bytes(bytes(inner))
    documents, (skipped,) = read(path)
    assert ids(documents) == ["a.eml", "a.eml/a.eml", "a.eml/a.eml/a.eml"]
    assert skipped.reason == "1 attachment was not read: a.eml"


def test_an_attached_bomb_is_not_unpacked(read, tmp_path: Path, write_docx) -> None:
    bomb = write_docx(tmp_path / "bomb.docx", "Snow.", extra={"word/document.xml": bytes(300 << 20)}).read_bytes()
    path = tmp_path / "a.eml"
    path.write_bytes(bytes(mail(("bomb.docx", bomb))))
    (document,), (skipped,) = read(path)
    assert document.id == "a.eml"
    assert "unpacks to more than" in skipped.reason


@pytest.mark.parametrize(
    "name", ["../../up.txt", "/etc/up.txt", "C:\\up.txt", "..", ".txt", "a\nb.txt", "x" * 300 + ".txt"]
)
def test_the_name_of_an_attachment_decides_nothing(read, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "mails"
    folder.mkdir()
    (folder / "a.eml").write_bytes(
        b'Subject: x\nContent-Type: application/octet-stream; name="%b"\n\nSnow.' % name.replace("\n", "\n ").encode()
    )
    documents, skipped = read(folder)
    assert len(documents) + len(skipped) > 0
    assert all("/../" not in document.id and "\n" not in document.id for document in documents)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["mails"]
    assert [found.name for found in folder.iterdir()] == ["a.eml"]


def test_of_very_many_attachments_the_rest_is_named(read, tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    parts = b"".join(
        b'--b\nContent-Disposition: attachment; filename="%d.txt"\n\nNo %d.\n' % (i, i) for i in range(1003)
    )
    path.write_bytes(b'Subject: x\nContent-Type: multipart/mixed; boundary="b"\n\n' + parts + b"--b--\n")
    documents, (skipped,) = read(path)
    assert len(documents) == 1000
    assert skipped.reason == "3 attachments were not read: 1000.txt, 1001.txt, 1002.txt"
