"""Files of rows: a bad row costs that row."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from functools import partial

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.corpus import Document, Skipped
from ragx.corpus.document import normalise
from ragx.corpus.rows import read_csv, read_dpr, read_jsonl, read_parquet
from ragx.util.jsonlines import MAX_LINE_BYTES

PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": partial(bz2.compress, compresslevel=1),
    ".zst": partial(pyarrow.compress, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize(("suffix", "pack"), PACK.items())
def test_json_lines(tmp_path, suffix, pack):
    path = tmp_path / f"rows.jsonl{suffix}"
    lines = [{"id": "a", "title": " T \n t", "text": "e\u0301\r\n", "other": 1}, {"id": 7, "text": "x", "title": None}]
    path.write_bytes(pack("\n\n".join(map(json.dumps, lines)).encode()))
    assert list(read_jsonl(path)) == [
        Document("a", "T t", "é\r\n", str(path), metadata='{"other": 1}'),
        Document("7", "", "x", str(path)),
    ]


@pytest.mark.parametrize(
    ("row", "document"),
    [
        ({"_id": "d1", "title": "Snow", "text": "Fresh snow.", "metadata": {}}, ("d1", "Snow", "Fresh snow.", "")),
        ({"id": "d2", "contents": "Snow\n\nFresh snow."}, ("d2", "Snow", "Fresh snow.", "")),
        ({"id": "0", "contents": '"Snow"\nFresh snow.'}, ("0", "Snow", "Fresh snow.", "")),
        ({"id": "0", "contents": "Fresh snow."}, ("0", "", "Fresh snow.", "")),
        ({"docid": "7#0", "title": "", "text": "Fresh snow."}, ("7#0", "", "Fresh snow.", "")),
        ({"pid": 3, "passage": "Fresh snow."}, ("3", "", "Fresh snow.", "")),
        ({"id": 4, "claim": "Snow is white.", "label": True}, ("4", "", "Snow is white.", '{"label": true}')),
        ({"id": 5, "text": "a", "body": "b"}, ("5", "", "a", '{"body": "b"}')),
        ({"id": 6, "text": None, "body": "b"}, ("6", "", "b", "")),
        (
            {"id": 7, "text": "a", "meta": {"year": 1802, "by": ["X", "Y"], "no": None}, "vector": [[0.5]] * 9},
            ("7", "", "a", '{"meta.year": 1802, "meta.by": ["X", "Y"]}'),
        ),
    ],
)
def test_the_names_that_public_corpora_give_their_fields(tmp_path, row, document):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    (found,) = read_jsonl(path)
    assert (found.id, found.title, found.text, found.metadata) == document


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": 1, "claim": "a", "body": "b"}, "has no text: its fields are id, claim, body; rename one to text"),
        ({"name": "x", "text": "b"}, "has no id: its fields are name, text; rename one to id"),
    ],
)
def test_a_missing_field_is_reported_with_the_fields_of_the_first_row_that_lacks_it(tmp_path, row, reason):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 0, "text": "a"}\n' + json.dumps(row) + "\n" + json.dumps(row | {"other": 1}))
    document, *skipped = read_jsonl(path)
    assert document.text == "a"
    assert skipped == [Skipped(f"{path}:2", reason), Skipped(f"{path}:3", reason)]


def test_metadata_of_a_row_is_bounded(tmp_path):
    path = tmp_path / "rows.jsonl"
    fields = {f"f{n}": "x" * 5000 for n in range(500)} | {"nan": float("nan"), "big": 10**400}
    path.write_text(json.dumps({"id": 0, "text": "a"} | fields))
    (document,) = read_jsonl(path)
    assert 1000 < len(document.metadata) < 40_000
    assert len(json.loads(document.metadata)["f0"]) == 1000


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "is not valid JSON"),
        (b"[1]", "is not a JSON object"),
        (b'"text"', "is not a JSON object"),
        (b'{"text": "a"}', "has no id"),
        (b'{"id": "", "text": "a"}', "has no id"),
        (b'{"id": 1.5, "text": "a"}', "its id is neither text nor an integer"),
        (b'{"id": true, "text": "a"}', "its id is neither text nor an integer"),
        (b'{"id": 1}', "has no text"),
        (b'{"id": 1, "text": ["a"]}', "its text is not text"),
        (b'{"id": 1, "text": "a", "title": 3}', "its title is not text"),
        (b'{"id": 1, "text": "\xff"}', "is not UTF-8"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"id": ' + b"9" * 10_000 + b"}", "is not valid JSON"),
        (b'{"id": 1, "text": "' + b"a" * (1 << 18) + b'"}', "is longer than"),
    ],
)
def test_a_bad_line_is_skipped_with_its_number_and_the_rest_is_read(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    good = b'{"id": 1, "text": "a"}\n'
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\n" + line + b"\n" + good)
    first, skipped, last = read_jsonl(path, max_line_bytes=1000 if "longer" in reason else MAX_LINE_BYTES)
    assert first == last == Document("1", "", "a", str(path))
    assert isinstance(skipped, Skipped)
    assert skipped.source == f"{path}:3"
    assert skipped.reason.startswith(reason)
    assert "\n" not in skipped.reason


def test_lone_surrogates_do_not_survive(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(r'{"id": "\ud800", "title": "\udc00", "text": "\ud83d\ude00\ud83d", "\ud800": "\ud800"}')
    (document,) = read_jsonl(path)
    assert json.loads(document.metadata) == {"\ufffd": "\ufffd"}
    assert (document.id, document.title, document.text) == ("\ufffd", "\ufffd", "😀\ufffd")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zst"])
def test_rows_before_the_damage_of_a_cut_file_are_read(tmp_path, suffix):
    path = tmp_path / f"rows.jsonl{suffix}"
    packed = PACK[suffix](b"".join(b'{"id": %d, "text": "%d"}\n' % (n, n * 7919**5) for n in range(20_000)))
    path.write_bytes(packed[: len(packed) * 3 // 4])
    *documents, skipped = read_jsonl(path)
    assert [document.id for document in documents] == [str(n) for n in range(len(documents))]
    assert len(documents) > 1000
    assert skipped.source == str(path)
    assert f"cannot be read beyond line {len(documents)}" in skipped.reason


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=20)


@given(st.lists(st.tuples(st.integers(1), cells, cells), max_size=5), st.booleans())
def test_dpr_passages_are_read_as_the_csv_module_writes_them_and_stay_whole(tmp_path_factory, passages, packed):
    path = tmp_path_factory.mktemp("dpr") / ("psgs_w100.tsv.gz" if packed else "psgs_w100.tsv")
    with gzip.open(path, "wt", newline="") if packed else path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([("id", "text", "title"), *passages])
    assert list(read_dpr(path)) == [
        Document(str(id), normalise(" ".join(title.split())), normalise(text), str(path), whole=True)
        for id, text, title in passages
    ]


def test_a_bad_dpr_row_is_skipped_with_its_line(tmp_path):
    path = tmp_path / "psgs.tsv"
    path.write_bytes(
        b'id\ttext\ttitle\n1\t"a ""b"""\tT\n2\tno title\n\n3\t\xff\tT\n4\tc\tT\n' + b"5\t%s\tT\n" % (b"x" * 200_000)
    )
    first, columns, encoding, last, long = read_dpr(path)
    assert first == Document("1", "T", 'a "b"', str(path), whole=True)
    assert columns == Skipped(f"{path}:3", "has 2 columns, not 3")
    assert encoding == Skipped(f"{path}:5", "is not UTF-8")
    assert last.id == "4"
    assert len(long.text) == 200_000


@pytest.mark.parametrize("last", ['4\tThe "old" road is steep.\tRoad', '4\tThe road is "steep".\tRoad\n5\tb\t"a"'])
def test_an_open_quote_swallows_no_row(tmp_path, last):
    path = tmp_path / "psgs.tsv"
    path.write_text(
        'id\ttext\ttitle\n1\t"Yes, the ferry was late.\tFerry\n2\tThe mill was built in 1802.\tMill\n'
        f'3\t"Heroes" is an album.\t"Heroes" (David Bowie album)\n{last}\n'
    )
    documents = [entry for entry in read_dpr(path) if isinstance(entry, Document)]
    assert [document.id for document in documents] == ["1", "2", "3", "4", "5"][: len(documents)]
    assert len(documents) >= 4
    assert documents[0].text == '"Yes, the ferry was late.'
    assert documents[1].text == "The mill was built in 1802."
    assert documents[2].title == '"Heroes" (David Bowie album)'


def test_a_table_of_texts(tmp_path, read):
    path = tmp_path / "rows.csv"
    path.write_text('\ufeffid,title,text,year\n1,T,"a, ""b""\nc",1802\n2,,d\n3,,e,\n')
    (first, last), (skipped,) = read(path)
    assert (first.id, first.title, first.text) == ("1", "T", 'a, "b"\nc')
    assert json.loads(first.metadata) == {"year": "1802"}
    assert (last.id, last.text, last.metadata) == ("3", "e", "")
    assert skipped == Skipped(f"{path}:4", "has 3 columns, not 4")
    assert list(read_csv(path)) == [first, skipped, last]


def test_a_table_of_texts_that_is_not_utf_8_is_read_as_a_table(tmp_path, read):
    path = tmp_path / "rows.csv"
    path.write_bytes("id;text\n1;Der Schnee fällt über Nürnberg.\n".encode("cp1252"))
    (document,), skipped = read(path)
    assert (document.text, skipped) == ("id: 1; text: Der Schnee fällt über Nürnberg.", [])


def parquet(path, **columns):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet(tmp_path):
    path = parquet(tmp_path / "a.parquet", id=[1, 2], other=[0, 0], text=["e\u0301", "b"], title=["T", None])
    first, second = read_parquet(path)
    assert first == Document("1", "T", "é", str(path), metadata='{"other": 0}')
    assert (second.id, second.title, second.text) == ("2", "", "b")
    path = parquet(tmp_path / "b.parquet", id=["x"], text=["a"])
    assert list(read_parquet(path)) == [Document("x", "", "a", str(path))]


def test_more_parquet_rows_than_fit_in_a_batch(tmp_path):
    path = parquet(tmp_path / "a.parquet", id=list(range(10)), text=[str(n) for n in range(10)])
    assert [document.text for document in read_parquet(path, 3)] == [str(n) for n in range(10)]


def test_bad_parquet_rows_and_files(tmp_path):
    import pyarrow

    bad_utf8 = pyarrow.Array.from_buffers(
        pyarrow.string(),
        3,
        [None, pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pyarrow.py_buffer(b"a\xffc")],
    )
    path = parquet(tmp_path / "a.parquet", id=[1, 2, None], text=bad_utf8)
    good, bad, without_id = read_parquet(path)
    assert good.text == "a"
    assert bad == Skipped(f"{path}:2", "is not UTF-8")
    assert without_id == Skipped(f"{path}:3", "has no id: its fields are id, text")

    path = parquet(tmp_path / "b.parquet", id=[1], notes=["a"])
    assert list(read_parquet(path)) == [Skipped(str(path), "has no column text: its columns are id, notes")]
    path.write_bytes(path.read_bytes()[:-10])
    (skipped,) = read_parquet(path)
    assert "cannot be read" in skipped.reason


@pytest.mark.parametrize(
    ("name", "rows"), [("cranfield", 1400), ("cisi", 1460), ("squad_dev", 2067), ("wiki18", 9990), ("multihop", 16675)]
)
def test_the_shared_corpora_are_read_whole(shared, name, rows):
    documents = list(read_jsonl(shared / "data" / "corpora" / f"{name}.jsonl.xz"))
    assert len({document.id for document in documents}) == len(documents) == rows
