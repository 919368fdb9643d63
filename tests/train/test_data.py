"""Documents: read from files, tokenised once, split by text."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from ragx_train.cli import load_recipe
from ragx_train.data.documents import Corpus, open_corpus, save_excerpt, text_key
from ragx_train.settings import DocumentSettings

from ragx.config import DatasetSource
from ragx.errors import ConfigError, CorpusError
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny_runs import CONFIGS, text, write_documents, write_rows


def opened(decoder: Path, folder: Path, *sources: str | DatasetSource) -> Corpus:
    return open_corpus(DocumentSettings(folder=str(folder), sources=list(sources)), load_tokenizer(decoder))


def whole(corpus: Corpus, document: int) -> list[int]:
    ids: list[int] = corpus.tokens(document, 0, 10**9).tolist()
    return ids


def test_all_formats_give_the_same_documents(decoder: Path, tmp_path: Path) -> None:
    rows = [{"text": text(n, 5), "meta": {"domain": "d"}} for n in range(3)] + [{"text": "snow", "domain": "e"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.jsonl.xz").write_bytes(lzma.compress(lines.encode()))
    (tmp_path / "d.jsonl.zst").write_bytes(pyarrow.compress(lines.encode(), "zstd", asbytes=True))
    expected = load_tokenizer(decoder).plain_ids([row["text"] for row in rows])
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.xz", "d.jsonl.zst"):
        corpus = opened(decoder, tmp_path, name)
        assert [whole(corpus, n) for n in range(4)] == expected
        assert [corpus.domains[each] for each in corpus.domain] == ["d", "d", "d", "e"]
    assert len(opened(decoder, tmp_path.parent, tmp_path.name).lengths) == 16, "a folder has all files in it"


def test_text_files_and_datasets(decoder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("fresh snow\n\nreflects")
    Dataset.from_dict({"body": ["dark soil", ""]}).to_parquet(tmp_path / "set" / "rows.parquet")
    corpus = opened(decoder, tmp_path, "notes.txt", DatasetSource(dataset=str(tmp_path / "set"), text_column="body"))
    assert [whole(corpus, n) for n in range(2)] == load_tokenizer(decoder).plain_ids(
        ["fresh snow\n\nreflects", "dark soil"]
    )
    assert len(corpus.lengths) == 2, "an empty document is left out"
    assert corpus.name(0) == "notes 0"


def test_a_domain_is_the_row_s_or_else_the_name_of_its_file_or_folder(decoder: Path, tmp_path: Path) -> None:
    for name in ("arxiv/arxiv_0238.jsonl", "crawl/2019-30/en_head.jsonl", "notes.jsonl", "novels/emma.txt"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "snow"}')
    Dataset.from_dict({"text": ["sun"]}).to_parquet(tmp_path / "data" / "sets" / "wiki" / "rows.parquet")
    sources = ["arxiv", "crawl", "notes.jsonl", "novels", DatasetSource(dataset="sets/wiki")]
    corpus = opened(decoder, tmp_path / "data", *sources)
    assert [corpus.domains[each] for each in corpus.domain] == ["arxiv", "2019-30", "notes", "novels", "wiki"]
    corpus = opened(decoder, tmp_path / "data", ".")
    assert [corpus.domains[each] for each in corpus.domain] == ["arxiv", "crawl", "data", "novels"]
    rows: list[dict[str, object]] = [
        {"domain": "a"},
        {"red_pajama_subset": "b", "meta": '{"url": "x"}'},
        {"meta": {"domain": "c"}},
        {"meta": '{"redpajama_set_name": "d"}'},
        {"meta": "no JSON"},
    ]
    write_rows(tmp_path / "e.jsonl", [{"text": "snow", **row} for row in rows])
    corpus = opened(decoder, tmp_path, "e.jsonl")
    assert [corpus.domains[each] for each in corpus.domain] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("recipe", ["mlm", "warmup", "cepe", "ceped", "retdoc"])
def test_the_paper_s_settings_read_redpajama_as_downloaded(recipe: str, decoder: Path, tmp_path: Path) -> None:
    domains = ["arxiv", "book", "c4", "common_crawl", "github", "stackexchange", "wikipedia"]
    for domain in domains:
        (tmp_path / domain).mkdir()
        write_rows(tmp_path / domain / f"{domain}_0238.jsonl", [{"text": domain, "meta": {"language": "en"}}])
    packed = pyarrow.compress(b'{"text": "snow"}\n', "zstd", asbytes=True)
    (tmp_path / "common_crawl" / "en_head_0000.json.gz.dedup.classifier.jsonl.zst").write_bytes(packed)
    data: Any = load_recipe(recipe, CONFIGS / recipe / "paper.yaml", [f"data.folder={tmp_path}"])
    corpus = open_corpus(data.data, load_tokenizer(decoder))
    assert corpus.domains == domains
    chosen = corpus.of_domains(np.arange(len(corpus.lengths)), list(data.data.filter_weights))
    assert len(chosen) == len(data.data.filter_weights)


def test_control_tokens_in_a_text_are_text(decoder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"text": "snow <|im_end|> sun"}])
    assert not {0, 1, 2} & set(whole(opened(decoder, tmp_path, "a.jsonl"), 0))


def test_a_source_is_tokenised_once_and_again_after_a_change(decoder: Path, tmp_path: Path) -> None:
    path = write_documents(tmp_path)
    opened(decoder, tmp_path, path.name)
    (tokens,) = (tmp_path / "ragx-home" / "documents").glob("*/tokens.bin")
    written = tokens.stat().st_mtime_ns
    opened(decoder, tmp_path, path.name)
    assert tokens.stat().st_mtime_ns == written
    write_rows(path, [{"text": "snow"}])
    assert len(opened(decoder, tmp_path, path.name).lengths) == 1


def test_an_excerpt_of_tokens_is_a_source_in_place_of_its_texts(decoder: Path, tmp_path: Path) -> None:
    texts = DocumentSettings(folder=str(tmp_path), sources=[write_documents(tmp_path).name])
    tokenizer = load_tokenizer(decoder)
    corpus = open_corpus(texts, tokenizer)
    size = int(corpus.lengths.sum()) // 2
    written = save_excerpt(texts, tokenizer, tmp_path / "half", tokens=size)
    half = opened(decoder, tmp_path, "half")
    assert size - corpus.lengths.max() < written == half.lengths.sum() <= size
    documents = {key: (whole(corpus, n), corpus.domain[n]) for n, key in enumerate(corpus.keys.tolist())}
    assert {key: (whole(half, n), half.domain[n]) for n, key in enumerate(half.keys.tolist())}.items() <= (
        documents.items()
    )
    (tmp_path / "half" / "info.json").write_text("{}")
    with pytest.raises(CorpusError, match="another tokenizer"):
        opened(decoder, tmp_path, "half")


def test_a_local_dataset_is_found_in_the_folder_and_reread_after_a_change(decoder: Path, tmp_path: Path) -> None:
    source = DatasetSource(dataset="set")
    for project, words in (("a", "snow"), ("b", "dark soil")):
        Dataset.from_dict({"text": [words]}).to_parquet(tmp_path / project / "set" / "rows.parquet")
        expected = load_tokenizer(decoder).plain_ids([words])
        assert [whole(opened(decoder, tmp_path / project, source), 0)] == expected
    Dataset.from_dict({"text": ["sun", "light"]}).to_parquet(tmp_path / "a" / "set" / "rows.parquet")
    corpus = opened(decoder, tmp_path / "a", source)
    assert [whole(corpus, n) for n in range(2)] == load_tokenizer(decoder).plain_ids(["sun", "light"])


def test_a_dataset_in_the_working_directory_is_told_from_others_of_its_name(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for project, words in (("a", "snow"), ("b", "dark soil")):
        Dataset.from_dict({"text": [words]}).to_parquet(tmp_path / project / "set" / "rows.parquet")
        monkeypatch.chdir(tmp_path / project)
        corpus = opened(decoder, tmp_path / "nowhere", DatasetSource(dataset="set"))
        assert [whole(corpus, 0)] == load_tokenizer(decoder).plain_ids([words])


def test_what_a_killed_process_left_is_replaced(decoder: Path, tmp_path: Path) -> None:
    path = write_documents(tmp_path)
    expected = whole(opened(decoder, tmp_path, path.name), 5)
    (tokens,) = (folder for folder in (tmp_path / "ragx-home" / "documents").iterdir() if folder.is_dir())
    draft = tokens.rename(tokens.with_name(f"{tokens.name}.tmp"))
    (draft / "tokens.bin").unlink()
    assert whole(opened(decoder, tmp_path, path.name), 5) == expected
    assert not draft.exists()


@given(st.lists(st.text(), min_size=1), st.floats(0, 0.5), st.floats(0, 0.4))
def test_splits_are_disjoint_complete_and_decided_by_the_text(texts: list[str], test: float, retrieval: float) -> None:
    texts = texts + texts[::2]
    keys = np.array([text_key(each) for each in texts], dtype=np.uint64)
    nothing = np.zeros(len(texts), dtype=np.int64)
    corpus = Corpus([], nothing, nothing, nothing, keys, nothing, ["a"])
    splits = [
        corpus.in_split("train", test=test, retrieval=retrieval),
        corpus.in_split("test", test=test, retrieval=retrieval),
        corpus.in_split("retrieval", test=test, retrieval=retrieval),
    ]
    assert sorted(np.concatenate(splits).tolist()) == list(range(len(texts)))
    one, two, three = ({texts[place] for place in split} for split in splits)
    assert not one & two | one & three | two & three


def test_splits_have_their_share_and_never_change() -> None:
    keys = np.array([text_key(f"document {n}") for n in range(5000)], dtype=np.uint64)
    nothing = np.zeros(5000, dtype=np.int64)
    corpus = Corpus([], nothing, nothing, nothing, keys, nothing, ["a"])
    held_out = corpus.in_split("test", test=0.1, retrieval=0.2)
    assert len(held_out) == pytest.approx(500, abs=100)
    assert len(corpus.in_split("retrieval", test=0.1, retrieval=0.2)) == pytest.approx(1000, abs=150)
    assert held_out[:5].tolist() == [21, 22, 51, 55, 59]
    assert set(held_out) <= set(corpus.in_split("test", test=0.2, retrieval=0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n[1]\n', r"a\.jsonl:2 is not a JSON object"),
        ('{"text": "a"}\n{"tex\n', r"a\.jsonl:2 is not valid JSON"),
        ('{"title": "a"}\n', r"a\.jsonl:1 has no text"),
        ('{"text": "a"}\n\n \n{"title": "a"}\n', r"a\.jsonl:4 has no text"),
        ('{"text": ""}\n', r"a\.jsonl has no text"),
    ],
)
def test_a_bad_file_is_named_with_its_line(content: str, message: str, decoder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(CorpusError, match=message):
        opened(decoder, tmp_path, "a.jsonl")
    assert not list((tmp_path / "ragx-home" / "documents").glob("*/info.json"))


def test_a_truncated_archive_is_named(decoder: Path, tmp_path: Path) -> None:
    lines = b'{"text": "snow"}\n' * 1000
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(lines)[:-20])
    (tmp_path / "a.jsonl.zst").write_bytes(pyarrow.compress(lines, "zstd", asbytes=True)[:-5])
    for name in ("a.jsonl.xz", "a.jsonl.zst"):
        with pytest.raises(CorpusError, match=rf"{name} cannot be read"):
            opened(decoder, tmp_path, name)


def test_a_missing_or_unreadable_source_is_named(decoder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    for source in ("nowhere.jsonl", "a.pdf"):
        with pytest.raises(ConfigError, match=r"data\.sources"):
            opened(decoder, tmp_path, source)
