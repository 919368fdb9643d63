"""The comments in office files are read on demand, with their authors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ragx.corpus.reading import FileReader
from ragx.corpus.sources import find_files
from tests.helpers.office import relations, write_parts, xml


def text_of(path: Path, comments: bool) -> str:
    with FileReader(1, options={"comments": comments}) as reader:
        (document,) = reader.read(find_files([path]))
    return document.text  # type: ignore[union-attr]


def word() -> Mapping[str, str]:
    def said(id: int, author: str, text: str) -> str:
        return f'<w:comment w:id="{id}" w:author="{author}"><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:comment>'

    run = '<w:r><w:t>{}</w:t></w:r><w:r><w:commentReference w:id="{}"/></w:r>'
    body = f"<w:p>{run.format('Snow.', 1)}</w:p><w:tbl><w:tr>"
    body += f"<w:tc><w:p>{run.format('Rent', 2)}</w:p></w:tc><w:tc><w:p/></w:tc></w:tr></w:tbl>"
    return {
        "word/document.xml": xml("w:document", f"<w:body>{body}</w:body>"),
        "word/_rels/document.xml.rels": relations({"comments:r1": "comments.xml"}),
        "word/comments.xml": xml("w:comments", said(1, "Ida", "Is it?") + said(2, "Piet", "In euros.")),
    }


def slides(*, modern: bool) -> Mapping[str, str]:
    if modern:
        reply = '<p:replyLst><p:reply authorId="{2}"><p:txBody><a:p><a:r><a:t>In euros.</a:t></a:r></a:p></p:txBody>'
        body = "<p:txBody><a:p><a:r><a:t>Is it?</a:t></a:r></a:p></p:txBody></p:cm>"
        comments = f'<p:cm authorId="{{1}}">{reply}</p:reply></p:replyLst>{body}'
        authors = '<p:author id="{1}" name="Ida"/><p:author id="{2}" name="Piet"/>'
        types = ("authors", "comments")
    else:
        comments = (
            '<p:cm authorId="0"><p:text>Is it?</p:text></p:cm><p:cm authorId="1"><p:text>In euros.</p:text></p:cm>'
        )
        authors = '<p:cmAuthor id="0" name="Ida"/><p:cmAuthor id="1" name="Piet"/>'
        types = ("commentAuthors", "comments")
    shape = "<p:sp><p:txBody><a:p><a:r><a:t>Snow.</a:t></a:r></a:p></p:txBody></p:sp>"
    return {
        "ppt/presentation.xml": xml("p:presentation", '<p:sldIdLst><p:sldId r:id="r1"/></p:sldIdLst>'),
        "ppt/_rels/presentation.xml.rels": relations({"slide:r1": "1.xml", f"{types[0]}:r2": "authors.xml"}),
        "ppt/1.xml": xml("p:sld", f"<p:cSld><p:spTree>{shape}</p:spTree></p:cSld>"),
        "ppt/_rels/1.xml.rels": relations({f"{types[1]}:r1": "comments.xml"}),
        "ppt/comments.xml": xml("p:cmLst", comments),
        "ppt/authors.xml": xml("p:authors", authors),
    }


def workbook(*, threads: bool) -> Mapping[str, str]:
    cell = '<x:row><x:c t="inlineStr"><x:is><x:t>Snow.</x:t></x:is></x:c></x:row>'
    plain = '<x:comment ref="A1" authorId="{}"><x:text><x:r><x:t>{}</x:t></x:r></x:text></x:comment>'
    authors = "<x:authors><x:author>Ida</x:author><x:author>Piet</x:author></x:authors>"
    listed = plain.format(0, "Ida:\nIs it?") + plain.format(1, "In euros.")
    parts = {
        "xl/workbook.xml": xml("x:workbook", '<x:sheets><x:sheet name="a" r:id="r1"/></x:sheets>'),
        "xl/_rels/workbook.xml.rels": relations({"worksheet:r1": "1.xml", "person:r2": "people.xml"}),
        "xl/1.xml": xml("x:worksheet", f"<x:sheetData>{cell}</x:sheetData>"),
        "xl/_rels/1.xml.rels": relations(
            {"comments:r1": "c.xml"} | ({"threadedComment:r2": "t.xml"} if threads else {})
        ),
        "xl/c.xml": xml("x:comments", f"{authors}<x:commentList>{listed}</x:commentList>"),
    }
    if threads:
        said = '<x:threadedComment ref="A1" personId="{}"><x:text>{}</x:text></x:threadedComment>'
        parts["xl/c.xml"] = parts["xl/c.xml"].replace("In euros.", "[Threaded comment] Your version of Excel is old.")
        parts["xl/t.xml"] = xml("x:ThreadedComments", said.format("{1}", "Is it?") + said.format("{2}", "In euros."))
        people = '<x:person id="{1}" displayName="Ida"/><x:person id="{2}" displayName="Piet"/>'
        parts["xl/people.xml"] = xml("x:personList", people)
    return parts


def odf(kind: str) -> Mapping[str, str]:
    office = "urn:oasis:names:tc:opendocument:xmlns"
    names = f'xmlns:o="{office}:office:1.0" xmlns:x="{office}:text:1.0" xmlns:t="{office}:table:1.0"'
    names += f' xmlns:d="{office}:drawing:1.0" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    first, second = (
        f"<o:annotation><dc:creator>{author}</dc:creator><dc:date>2024-01-01</dc:date><x:p>{text}</x:p></o:annotation>"
        for author, text in (("Ida", "Is it?"), ("Piet", "In euros."))
    )
    body = {
        "text": f"<x:p>Sn{first}ow.{second}</x:p>",
        "spreadsheet": f'<t:table t:name="a"><t:table-row><t:table-cell>{first}<x:p>Snow.</x:p></t:table-cell>'
        f"<t:table-cell>{second}<x:p>b</x:p></t:table-cell></t:table-row></t:table>",
        "presentation": f"<d:page><d:frame><d:text-box><x:p>Snow.</x:p></d:text-box></d:frame>{first}{second}</d:page>",
    }[kind]
    return {
        "content.xml": f"<o:document-content {names}><o:body><o:{kind}>{body}</o:{kind}></o:body></o:document-content>"
    }


FILES = {
    "a.docx": word(),
    "old.pptx": slides(modern=False),
    "new.pptx": slides(modern=True),
    "old.xlsx": workbook(threads=False),
    "new.xlsx": workbook(threads=True),
    "a.odt": odf("text"),
    "a.ods": odf("spreadsheet"),
    "a.odp": odf("presentation"),
}
RTF = (
    r"{\rtf1\ansi Snow.{\*\atnid I}{\*\atnauthor Ida}\chatn{\*\annotation{\*\atnref 1}{\*\atndate 5}\pard Is it?}\par"
    r"{\*\atnauthor Piet}\chatn{\*\annotation In euros.}End.}"
)


@pytest.mark.parametrize("name", [*FILES, "a.rtf"])
def test_comments_are_read_on_demand(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name in FILES:
        write_parts(path, FILES[name])
    else:
        path.write_text(RTF)
    text = text_of(path, comments=True)
    place = " on A1" if path.suffix == ".xlsx" else ""
    comments = [f"Comment{place} by Ida: Is it?", f"Comment{place} by Piet: In euros."]
    assert [line for line in text.split("\n") if line.startswith("Comment")] in (comments, comments[::-1])
    assert "Snow." in text
    assert "Threaded" not in text
    without = text_of(path, comments=False)
    assert "Snow." in without
    assert not any(word in without for word in ("Is it", "euros", "Ida", "Piet"))
