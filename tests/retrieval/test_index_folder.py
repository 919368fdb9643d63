"""What an index folder promises: whole generations, one writer, and a name for whatever is damaged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from toy_encoders import WordEncoder, passage, passages

from ragx.config import IndexSettings
from ragx.errors import ConfigError, CorpusError, IndexFolderError, ModelError
from ragx.retrieval import Index, Retriever, build_index, read_manifest, remove, repair_index, verify
from ragx.retrieval.durable import writer_lock
from ragx.types import Passage

SNOW = [f"snow {n} reflects" for n in range(7)]
SOIL = [f"soil {n} absorbs" for n in range(5)]


def build(folder: Path, texts: list[str], encoder: WordEncoder | None = None, **values: object) -> WordEncoder:
    encoder = encoder or WordEncoder()
    settings = IndexSettings.model_validate({"shard_size": 3, **values})
    build_index(passages(texts), folder, encoder, settings, quiet=True)
    return encoder


def texts_of(index: Index) -> list[str]:
    return [index.passage(row).text for row in range(len(index))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    build(folder, SNOW)
    return folder


# What is in a generation


def test_the_manifest_says_what_the_index_was_made_from(tmp_path: Path) -> None:
    settings = IndexSettings(sources=["notes"], shard_size=3)
    counted = {"documents": 2, "duplicates": 1, "empty": 4, "skipped": 5}
    manifest = build_index(passages(SNOW), tmp_path, WordEncoder(), settings, counts=lambda: counted, quiet=True)
    assert manifest == read_manifest(tmp_path) == Index.open(tmp_path).manifest
    assert manifest.settings == settings
    assert manifest.encoder.model_dump() == {"name": "words", "fingerprint": "w" * 64, "dimension": 16}
    assert manifest.counts.model_dump() == {**counted, "passages": 7, "shards": 3}
    assert [shard.passages for shard in manifest.shards] == [3, 3, 1]


def test_counts_are_asked_for_when_the_passages_have_been_read(tmp_path: Path) -> None:
    read = []

    def stream() -> Iterator[Passage]:
        for each in passages(SNOW):
            read.append(each)
            yield each

    manifest = build_index(
        stream(), tmp_path, WordEncoder(), IndexSettings(), counts=lambda: {"documents": len(read)}, quiet=True
    )
    assert manifest.counts.documents == len(SNOW)


def test_every_file_is_in_the_manifest_and_nothing_is_pickled(folder: Path) -> None:
    generation = folder / "gen-0001"
    files = {path.relative_to(generation).as_posix() for path in generation.rglob("*") if path.is_file()}
    assert files == {*read_manifest(folder).files, "manifest.json"}
    assert {path.name for path in folder.iterdir()} == {"CURRENT", "LOCK", "gen-0001"}
    for path in generation.rglob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype.kind in "fi"


def test_any_text_comes_back_as_it_was(tmp_path: Path) -> None:
    given = [
        Passage("a/ü#0", "a/ü", "\n", "\0 \u2028 \U0001f600 </s> \x1b[31m", 0, 5, 23, "x" * 1000),
        Passage("", "", "", "", 2**40, 0, 0, "", '{"page": 3}'),
    ]
    build_index(given, tmp_path, WordEncoder(), IndexSettings(), quiet=True)
    index = Index.open(tmp_path)
    assert [index.passage(row) for row in range(2)] == given


# Generations


def test_a_reader_keeps_its_generation_while_others_are_published(folder: Path) -> None:
    retriever = Retriever(Index.open(folder), WordEncoder())
    before = {method: retriever.search("snow 3", 7, method) for method in ("dense", "bm25", "hybrid")}
    for _ in range(3):
        build(folder, SOIL)
    assert not (folder / "gen-0001").exists()
    assert {method: retriever.search("snow 3", 7, method) for method in before} == before
    assert texts_of(Index.open(folder)) == SOIL


def test_the_current_and_the_previous_generation_are_kept(folder: Path) -> None:
    for number in (2, 3, 4):
        build(folder, SOIL)
        assert (folder / "CURRENT").read_text() == f"gen-{number:04d}\n"
        kept = sorted(path.name for path in folder.glob("gen-*"))
        assert kept == [f"gen-{number - 1:04d}", f"gen-{number:04d}"]


def test_a_build_that_fails_leaves_the_published_index_alone(folder: Path) -> None:
    def broken() -> Iterator[Passage]:
        yield passage(0, "soil")
        raise CorpusError("the corpus ends here")

    with pytest.raises(CorpusError, match="ends here"):
        build_index(broken(), folder, WordEncoder(), IndexSettings(), quiet=True)
    assert texts_of(Index.open(folder)) == SNOW


# Continuing


class Interrupted(WordEncoder):
    """Stops after two shards."""

    def encode_passages(self, *arguments: object) -> np.ndarray:
        if self.encoded >= 6:
            raise KeyboardInterrupt
        return super().encode_passages(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "index", SNOW, Interrupted())
    return tmp_path / "index"


def test_an_unfinished_build_is_no_index_and_says_how_to_continue(unfinished: Path) -> None:
    with pytest.raises(IndexFolderError, match="did not finish: run it again to continue"):
        Index.open(unfinished)


def test_finished_shards_are_not_embedded_again(unfinished: Path) -> None:
    assert build(unfinished, SNOW).encoded == 1
    assert texts_of(Index.open(unfinished)) == SNOW


def test_only_shards_whose_passages_changed_are_embedded_again(unfinished: Path) -> None:
    changed = [*SNOW[:3], "cloud", *SNOW[4:]]
    assert build(unfinished, changed).encoded == 4
    index = Index.open(unfinished)
    assert texts_of(index) == changed
    expected = WordEncoder().encode_passages(passages(changed), lambda _: None)
    assert np.array_equal(np.concatenate([shard.vectors for shard in index.shards]), expected)


def test_a_corpus_that_shrank_drops_the_surplus_shards(unfinished: Path) -> None:
    assert build(unfinished, SNOW[:2]).encoded == 2
    assert texts_of(Index.open(unfinished)) == SNOW[:2]
    assert [path.name for path in (unfinished / "gen-0001").glob("shard-*")] == ["shard-00000"]


def test_another_encoder_or_shard_size_starts_afresh(unfinished: Path) -> None:
    assert build(unfinished, SNOW, WordEncoder(fingerprint="x" * 64)).encoded == len(SNOW)
    with pytest.raises(KeyboardInterrupt):
        build(unfinished, SNOW, Interrupted())
    assert build(unfinished, SNOW, shard_size=2).encoded == len(SNOW)


def test_another_kind_of_faiss_index_keeps_the_vectors(unfinished: Path) -> None:
    assert build(unfinished, SNOW, faiss="HNSW8").encoded == 1
    index = Index.open(unfinished)
    assert {type(shard.faiss).__name__ for shard in index.shards} == {"IndexHNSWFlat"}
    assert Retriever(index, WordEncoder()).search("snow 4 reflects", 1, "dense")[0].passage.text == SNOW[4]


def test_a_cut_file_of_an_unfinished_build_is_made_again(unfinished: Path) -> None:
    os.truncate(unfinished / "gen-building" / "shard-00000" / "vectors.npy", 10)
    assert build(unfinished, SNOW).encoded == 4
    verify(unfinished)


# One writer


def test_a_second_writer_is_told_who_the_first_is(folder: Path) -> None:
    holder = rf"another process \(pid {os.getpid()} on .+ since 2.+: .+\) is writing to"
    with writer_lock(folder):
        for write in (lambda: build(folder, SOIL), lambda: remove(folder)):
            with pytest.raises(IndexFolderError, match=holder):
                write()
        assert texts_of(Index.open(folder)) == SNOW
    build(folder, SOIL)


def test_the_lock_holds_between_processes_and_dies_with_its_holder(folder: Path) -> None:
    script = (
        "import sys, pathlib; from ragx.retrieval.durable import writer_lock\n"
        "with writer_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(IndexFolderError, match=f"pid {holder.pid} on"):
            build(folder, SOIL)
        holder.kill()
    build(folder, SOIL)


# Where nothing can be written


# Each is larger than those written before it.
LARGE = [" ".join(f"w{row}x{column}" for column in range(100)) for row in range(40)]
SCRIPT = """
import json, pathlib, resource, sys
sys.path.insert(0, sys.argv[1])
from test_index_folder import build_large
from ragx.errors import IndexFolderError
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    build_large(pathlib.Path(sys.argv[2]))
except IndexFolderError as error:
    print(error)
"""


def build_large(folder: Path) -> WordEncoder:
    return build(folder, LARGE, WordEncoder(dimension=256), faiss="HNSW32", shard_size=100)


@pytest.mark.parametrize(
    "name",
    ["shard-00000/passages.arrow", "shard-00000/vectors.npy", "shard-00000/faiss.index", "bm25/vocab.index.json"],
)
def test_a_full_disk_is_one_line_that_names_the_file_and_publishes_nothing(
    folder: Path, tmp_path: Path, name: str
) -> None:
    """A limit on the size of files stands in for the disk: writes fail in the same way, whoever does them."""
    build_large(tmp_path / "whole")
    limit = read_manifest(tmp_path / "whole").files[name].size - 1
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    # bm25s writes several files itself: there the folder is named.
    named = folder / "gen-building" / (name if not name.startswith("bm25/") else "bm25")
    assert re.fullmatch(rf"cannot write {named}: (File too large|.* \(is the disk full\?\))\n", child.stdout), child
    assert (folder / "CURRENT").read_text() == "gen-0001\n"
    assert texts_of(Index.open(folder)) == SNOW
    verify(folder)
    build_large(folder)
    assert texts_of(Index.open(folder)) == LARGE


def test_a_read_only_folder_can_be_read_and_not_written() -> None:
    base = Path(mkdtemp())  # not tmp_path: others than its owner may not enter that
    folder = base / "index"
    build(folder, SNOW)
    base.chmod(0o555)
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:  # who may write anywhere
            os.seteuid(65534)
        with pytest.raises(IndexFolderError, match=rf"cannot write {folder}/LOCK: Permission denied"):
            build(folder, SOIL)
        assert texts_of(Index.open(folder)) == SNOW
        with pytest.raises(IndexFolderError, match=rf"cannot write {folder}/new: Permission denied"):
            build(folder / "new", SOIL)
    finally:
        os.seteuid(user)
        base.chmod(0o755)
        folder.chmod(0o755)
        shutil.rmtree(base)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("MANIFEST-000004\n")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match="is not empty and not an index: choose another folder"):
        build(tmp_path, SNOW)
    with pytest.raises(IndexFolderError, match="no index at"):
        remove(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"CURRENT", "notes.txt"}


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "index"):
        with pytest.raises(IndexFolderError, match=f"cannot write {tmp_path}/file"):
            build(out, SNOW)


# Input that cannot be indexed


def test_no_passages_at_all_is_an_error_and_leaves_no_unfinished_build(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there are no passages to index"):
        build(tmp_path, [])
    assert not (tmp_path / "gen-building").exists()


def test_text_that_is_not_unicode_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="passage 'doc1#0' holds a lone surrogate"):
        build(tmp_path, ["fine", "bro\ud800ken"])


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Overflowing(WordEncoder):
        def encode_question(self, question: str) -> np.ndarray:
            return super().encode_question(question) * np.float32(np.inf if "4" in question else 1)

    with pytest.raises(ModelError, match="encoder words gives vectors that are not finite"):
        build(tmp_path, SNOW, Overflowing())


def test_too_few_passages_for_another_faiss_index_loses_nothing(unfinished: Path) -> None:
    with pytest.raises(ConfigError, match="use Flat"):
        build(unfinished, SNOW, faiss="IVF100,Flat")
    assert build(unfinished, SNOW).encoded == 1


# Damage


def every_file(folder: Path) -> list[str]:
    return sorted(read_manifest(folder).files)


def test_verify_accepts_what_was_built(folder: Path) -> None:
    verify(folder)


def test_a_flipped_bit_in_any_file_is_found_and_named(folder: Path) -> None:
    for name in every_file(folder):
        path = folder / "gen-0001" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(IndexFolderError, match=f"{path} is damaged") as caught:
            verify(folder)
        assert str(caught.value).count("gen-0001") == 1
        path.write_bytes(whole)
    verify(folder)


def test_a_cut_file_is_named_when_the_index_is_opened(folder: Path) -> None:
    for name in every_file(folder):
        path = folder / "gen-0001" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        for check in (Index.open, verify):
            with pytest.raises(IndexFolderError, match=f"{path} is damaged: {len(whole) - 1:,} bytes instead of"):
                check(folder)
        path.unlink()
        for check in (Index.open, verify):
            with pytest.raises(IndexFolderError, match=f"cannot read {path}: No such file"):
                check(folder)
        path.write_bytes(whole)
    Index.open(folder)


def test_files_of_the_right_size_and_nothing_else_are_named_when_opened(folder: Path) -> None:
    for name in every_file(folder):
        if name.endswith((".arrow", "vectors.npy", "faiss.index")):
            path = folder / "gen-0001" / name
            whole = path.read_bytes()
            path.write_bytes(b"\xff" * len(whole))
            with pytest.raises(IndexFolderError, match=f"{path} is damaged|cannot read {path}"):
                Index.open(folder)
            path.write_bytes(whole)


def test_a_damaged_manifest_is_named(folder: Path) -> None:
    path = folder / "gen-0001" / "manifest.json"
    whole = path.read_text()
    edited = [whole[:-20], whole.replace('"passages": 7', '"passages": 6'), whole.replace("words", "sword")]
    for damaged in ("", "[]", "{}", "null", *edited):
        path.write_text(damaged)
        for check in (Index.open, verify, read_manifest):
            with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
                check(folder)


@pytest.mark.parametrize("name", ["", "gen-0001\ngen-0002\n", "../gen-0001\n", "gen-1\n", "MANIFEST-4\n", "\xff\n"])
def test_a_damaged_current_is_named(folder: Path, name: str) -> None:
    (folder / "CURRENT").write_text(name, encoding="latin-1")
    with pytest.raises(IndexFolderError, match=f"{folder}/CURRENT is damaged"):
        Index.open(folder)


@pytest.mark.parametrize("name", ["", "gen-0001\ngen-0002\n", "gen-0004\n", "gen-000\xb2\n", "../gen-0001\n", None])
def test_a_damaged_current_is_said_and_repaired(folder: Path, name: str | None) -> None:
    build(folder, SOIL)
    if name is None:
        (folder / "CURRENT").unlink()
    else:
        (folder / "CURRENT").write_text(name, encoding="latin-1")
        with pytest.raises(
            IndexFolderError, match=f"{folder}/CURRENT is damaged: it names .*; run `ragx index repair`"
        ):
            Index.open(folder)
    assert repair_index(folder, quiet=True) == ["CURRENT"]
    assert texts_of(Index.open(folder)) == SOIL
    assert repair_index(folder, quiet=True) == []


def test_current_goes_back_to_the_newest_generation_that_is_whole(folder: Path) -> None:
    build(folder, SOIL)
    (folder / "CURRENT").write_text("gen-0009\n")
    os.truncate(folder / "gen-0002" / "shard-00000" / "vectors.npy", 10)
    assert repair_index(folder, quiet=True) == ["CURRENT"]
    assert texts_of(Index.open(folder)) == SNOW
    os.truncate(folder / "gen-0001" / "shard-00000" / "vectors.npy", 10)
    (folder / "CURRENT").write_text("gen-0009\n")
    with pytest.raises(IndexFolderError, match=f"no generation in {folder} is whole: rebuild the index"):
        repair_index(folder, quiet=True)


def test_no_index_is_one_line(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "missing", Path(__file__)):
        for use in (Index.open, verify, read_manifest, remove):
            with pytest.raises(IndexFolderError, match=rf"no index at {missing}( \(build one |$)"):
                use(missing)


# Removal


def test_remove_deletes_the_index_and_only_the_index(folder: Path, unfinished: Path) -> None:
    build(folder, SOIL)
    (folder / "notes.txt").write_text("mine")
    remove(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_remove_deletes_a_folder_left_empty(unfinished: Path) -> None:
    remove(unfinished)
    assert not unfinished.exists()
