"""`ragx index` and `ragx search`: build, maintain and search an index."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.command import QUESTION, RunCommand


def test_search_shows_hits_best_first(ragx: RunCommand, index: Path) -> None:
    run = ragx("search", "open sea", "--index", index, "-k", 2)
    assert run.out.startswith("  1. Sea  (score ")
    scores = [
        hit["rerank_score"] for hit in json.loads(ragx("search", "open sea", "--index", index, "--json").out)["hits"]
    ]
    assert scores == sorted(scores, reverse=True)


def test_nothing_from_a_passage_controls_the_terminal(ragx: RunCommand, index: Path) -> None:
    for options in ([], ["--json"]):
        run = ragx("search", "red café in the snow", "--index", index, *options)
        assert "café in the snow" in run.out or "caf\\u00e9 in the snow" in run.out
        assert "\x1b" not in run.out
        assert "\x9b" not in run.out


def test_info_counts_documents_passages_and_shards(ragx: RunCommand, index: Path) -> None:
    info = json.loads(ragx("index", "info", "--index", index, "--json").out)
    assert (info["documents"], info["passages"], info["shards"]) == (4, 4, 1)


def test_verify_then_rm(ragx: RunCommand, notes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    assert ragx("index", "build", notes, "--index", folder, "--chunking.size=5", "--shard-size", 3).code == 0
    assert ragx("index", "verify", "--index", folder).code == 0
    (vectors,) = folder.glob("gen-*/shard-00000/vectors.npy")
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    run = ragx("index", "verify", "--index", folder)
    assert run.code == 2
    assert str(vectors) in run.err
    assert ragx("index", "rm", "--index", folder, "--yes").code == 0
    assert not folder.exists()


class Interrupting:
    def readline(self) -> str:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("answer", "code", "ending"),
    [
        (io.StringIO("n\n"), 0, "nothing was deleted\n"),
        (io.StringIO(""), 130, "ragx: interrupted\n"),
        (Interrupting(), 130, "ragx: interrupted\n"),
    ],
)
def test_rm_deletes_nothing_without_confirmation(
    ragx: RunCommand, index: Path, monkeypatch: pytest.MonkeyPatch, answer: object, code: int, ending: str
) -> None:
    monkeypatch.setattr("sys.stdin", answer)
    run = ragx("index", "rm", "--index", index)
    assert run.err.startswith(f"Delete the index {index}?")
    assert (run.code, run.err.endswith(ending)) == (code, True)
    assert ragx("index", "verify", "--index", index).code == 0


def test_an_index_follows_its_files(ragx: RunCommand, tmp_path: Path) -> None:
    notes, more, folder = tmp_path / "notes", tmp_path / "more", tmp_path / "index"
    for path, text in ((notes / "a.txt", "Snow is white."), (more / "b.txt", "Soil is dark.")):
        path.parent.mkdir()
        path.write_text(text)
    assert ragx("index", "build", notes, "--index", folder).code == 0
    (notes / "c.txt").write_text("The sea is blue.")
    run = ragx("index", "update", "--index", folder)
    assert (run.code, run.out) == (0, "")
    assert run.err.endswith(f"1 added, 0 deleted, 1 unchanged passages in {folder}\n")
    added = json.loads(ragx("index", "add", "--index", folder, more, "--json").out)
    assert added == {"folder": str(folder), "added": 1, "deleted": 0, "unchanged": 2, "skipped": []}
    assert json.loads(ragx("index", "delete", "--index", folder, "a.txt", "--json").out)["deleted"] == 1
    assert json.loads(ragx("index", "compact", "--index", folder, "--json").out)["shards"] == 1
    assert json.loads(ragx("index", "gc", "--index", folder, "--json").out)["bytes"] > 0
    hits = json.loads(ragx("search", "snow", "--index", folder, "--json").out)["hits"]
    assert sorted(hit["id"] for hit in hits) == ["c.txt#0", "more/b.txt#0"]


def test_a_damaged_file_is_named_and_repaired(ragx: RunCommand, index: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(index, tmp_path / "index")
    for name in ("shard-00000/faiss.index", "lexical/00000/meta.json"):
        (path,) = folder.glob(f"gen-*/{name}")
        path.write_bytes(b"\0" * path.stat().st_size)
    run = ragx("search", "snow", "--index", folder)
    assert run.code == 2
    assert "is damaged: its SHA-256" in run.err
    run = ragx("index", "repair", "--index", folder, "--json")
    assert json.loads(run.out)["repaired"] == ["lexical/00000/meta.json", "shard-00000/faiss.index"]
    before = json.loads(ragx("search", QUESTION, "--index", index, "--json").out)
    assert json.loads(ragx("search", QUESTION, "--index", folder, "--json").out) == before
    assert "nothing to repair" in ragx("index", "repair", "--index", folder).err


def test_a_file_that_cannot_be_read_is_listed_and_the_rest_is_indexed(ragx: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("Snow is white.")
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.7 broken")
    run = ragx("index", "build", tmp_path, "--index", tmp_path / "index")
    assert run.code == 3
    assert f"skipped {tmp_path}/bad.pdf: " in run.err
    assert "1 document, 1 passage indexed" in run.err
    assert ragx("search", "snow", "--index", tmp_path / "index").code == 0
    strict = ragx("index", "build", tmp_path, "--index", tmp_path / "strict", "--strict")
    assert strict.code == 2
    assert "bad.pdf" in strict.err
    assert not (tmp_path / "strict" / "CURRENT").exists()


def test_options_may_be_any_text(ragx: RunCommand, tmp_path: Path) -> None:
    for name in ("a.txt", "\U0001f4c1.txt"):
        (tmp_path / name).write_text("Snow is white.")
    run = ragx("index", "build", tmp_path, "--index", tmp_path / "index", "--include", "*\U0001f4c1*")
    assert run.code == 0
    (hit,) = json.loads(ragx("search", "snow", "--index", tmp_path / "index", "--json").out)["hits"]
    assert hit["id"] == "\U0001f4c1.txt#0"


def test_arguments_that_are_not_utf8_are_refused_before_anything_is_read(ragx: RunCommand, tmp_path: Path) -> None:
    source = tmp_path / "caf\udce9"
    source.mkdir()
    (source / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    builds = {
        "sources": [source, "--index", tmp_path / "index"],
        "index": [tmp_path, "--index", source],
        "exclude": [tmp_path, "--index", tmp_path / "index", "--exclude", "*\udce9*"],
    }
    for key, arguments in builds.items():
        run = ragx("index", "build", *arguments, "--strict")
        assert (run.code, run.out) == (2, "")
        assert run.err.startswith(f"ragx: {key}: ")
        assert run.err.endswith(" is not UTF-8: give it another name\n")
    assert not (tmp_path / "index").exists()


def test_names_of_files_in_a_source_need_not_be_utf8(ragx: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "caf\udce9.txt").write_text("Snow is white.")
    assert ragx("index", "build", tmp_path / "notes", "--index", tmp_path / "index").code == 0


def test_an_index_built_with_another_embedder_is_refused(ragx: RunCommand, index: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(index, other)
    (path,) = other.glob("gen-*/manifest.json")
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop("checksum")
    values["embedder"]["fingerprint"] = "0" * 64
    canonical = json.dumps(values, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**values, "checksum": hashlib.sha256(canonical.encode()).hexdigest()}))
    run = ragx("search", "snow", "--index", other)
    assert run.code == 2
    assert "was built with embedder all-minilm-l6-v2 (fingerprint 000000000000)" in run.err
