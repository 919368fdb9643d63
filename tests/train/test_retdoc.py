"""Retrieved passages in the encoder: where they come from, and that none repeats the text."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import yaml
from ragx_train.data.documents import open_corpus, text_key
from ragx_train.data.retrieved import Retrieved
from ragx_train.data.split import write_retrieval_split
from ragx_train.engine import log as record
from ragx_train.errors import OutputError
from ragx_train.recipes.retdoc import RetdocSettings, examples, open_retriever, retrieve, retrieve_all
from ragx_train.settings import DocumentSettings
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from ragx import cepe
from ragx.config import Chunking, IndexSettings
from ragx.errors import ConfigError, CorpusError, RagxError
from ragx.indexing.build import build
from ragx.util.tokenization import load_tokenizer
from tests.helpers.command import RunCommand
from tests.helpers.tiny_runs import run_recipe, text, tiny_settings, write_documents, write_rows


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random one-layer BERT on bytes."""
    folder = tmp_path_factory.mktemp("embedder")
    pieces = ["[PAD]", "[UNK]", "[CLS]", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.WordLevel({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.Split("", "isolated")]
    )
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(pieces), max_position_embeddings=64, **sizes)).save_pretrained(folder)
    return folder


def indexed(documents: Path, embedder: Path, words: int = 12) -> Path:
    """An index of passages of this many words."""
    folder = documents.with_name("index")
    build([documents], folder, IndexSettings(embedder=str(embedder), chunking=Chunking(size=words)))
    return folder


@pytest.fixture
def settings(decoder: Path, tmp_path: Path, embedder: Path) -> RetdocSettings:
    """The settings of a tiny run, with its retrieval split indexed."""
    write_documents(tmp_path)
    settings = tiny_settings("retdoc", decoder, tmp_path, f"index={tmp_path / 'index'}")
    assert isinstance(settings, RetdocSettings)
    write_retrieval_split(settings.data, tmp_path / "retrieval.jsonl")
    indexed(tmp_path / "retrieval.jsonl", embedder)
    return settings


def test_the_split_has_the_documents_that_no_other_split_has(decoder: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in write_documents(tmp_path).read_text().splitlines()]
    rows.append({"text": "  \n", "domain": "blank"})
    write_rows(tmp_path / "documents.jsonl", rows)
    data = DocumentSettings(folder=str(tmp_path), sources=["documents.jsonl"], test=0.2, retrieval=0.3)
    out = tmp_path / "retrieval.jsonl"
    count = write_retrieval_split(data, out)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    corpus = open_corpus(data, load_tokenizer(decoder))
    kept = {int(corpus.keys[place]) for place in corpus.in_split("retrieval", test=0.2, retrieval=0.3)}
    assert {text_key(row["text"]) for row in written} == kept
    assert count == len(written) == len({row["id"] for row in written}) > 5
    assert {(row["text"], row["domain"]) for row in written} <= {(row["text"], row["domain"]) for row in rows}


def test_a_split_that_cannot_be_written_replaces_no_file(tmp_path: Path) -> None:
    write_documents(tmp_path, 3)
    data = DocumentSettings(folder=str(tmp_path), sources=["documents.jsonl"], retrieval=1e-9)
    out = tmp_path / "out.jsonl"
    with pytest.raises(ConfigError, match=r"data\.retrieval is 0"):
        write_retrieval_split(data.model_copy(update={"retrieval": 0.0}), out)
    with pytest.raises(CorpusError, match="none of 3 documents"):
        write_retrieval_split(data, out)
    assert list(tmp_path.iterdir()) == [tmp_path / "documents.jsonl"]
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_retrieval_split(data.model_copy(update={"retrieval": 0.9}), out)
    assert out.read_text() == "mine"
    with pytest.raises(OutputError, match="cannot write"):
        write_retrieval_split(data.model_copy(update={"retrieval": 0.9}), tmp_path / "nowhere" / "out.jsonl")


def test_the_encoder_reads_the_best_passages_of_the_index(settings: RetdocSettings, decoder: Path) -> None:
    tokenizer, retriever = load_tokenizer(decoder), open_retriever(settings)
    words = text(5000, 60)
    (ids,) = tokenizer.plain_ids([words])
    query = tokenizer.decode(ids[: settings.query_tokens])
    best = [hit.passage.text for hit in retriever.search(query, settings.passages, "dense")]
    expected = [each[: settings.passage_tokens] for each in tokenizer.plain_ids(best)]
    assert retrieve(ids, settings, tokenizer, retriever) == expected
    assert len(expected) == settings.passages


def test_no_passage_repeats_the_text(decoder: Path, tmp_path: Path, embedder: Path) -> None:
    """Even if the index holds it, whole and with one word changed, and ranks it first."""
    words = text(1, 100).split()
    altered = " ".join([*words[:57], "moon", *words[58:]]).upper()
    rows = [" ".join(words), altered, *(text(n, 60) for n in range(2, 6))]
    write_rows(tmp_path / "corpus.jsonl", [{"id": n, "text": each} for n, each in enumerate(rows)])
    indexed(tmp_path / "corpus.jsonl", embedder, words=30)
    settings = tiny_settings("retdoc", decoder, tmp_path, f"index={tmp_path / 'index'}", "passages=100")
    assert isinstance(settings, RetdocSettings)
    settings = settings.model_copy(update={"passage_tokens": 1000})
    tokenizer = load_tokenizer(decoder)
    (ids,) = tokenizer.plain_ids([" ".join(words)])
    for method in ("bm25", "dense", "hybrid"):
        searched = settings.model_copy(update={"method": method})
        retriever = open_retriever(searched)
        hits = {hit.passage.document for hit in retriever.search(" ".join(words[:20]), 100, searched.method)}
        found = [tokenizer.decode(each) for each in retrieve(ids, searched, tokenizer, retriever)]
        assert len(hits) == 6
        assert len(found) == 8
        assert all(any(passage in each for each in rows[2:]) for passage in found)


def test_an_example_is_the_sequence_with_its_passages_masked(settings: RetdocSettings, decoder: Path) -> None:
    tokenizer, retriever = load_tokenizer(decoder), open_retriever(settings)
    corpus = open_corpus(settings.data, tokenizer)
    example, validation = examples(settings, corpus, tokenizer, retriever)
    unmasked = settings.model_copy(update={"masking": settings.masking.model_copy(update={"chunk": 0.0})})
    whole, _ = examples(unmasked, corpus, tokenizer, retriever)
    assert all(len(each.ids) == settings.decoder_tokens for each in validation)
    assert {len(each.passages) for each in validation} == {settings.passages}
    masked = 0
    for position in range(8):
        one, again = example(position), example(position)
        assert one == again
        assert one.ids == whole(position).ids
        assert len(whole(position).passages) == settings.passages
        masked += one.passages != whole(position).passages
    assert masked >= 4  # 1 - 0.7⁴ = 0.76 of them are expected to be


def test_a_whole_run(settings: RetdocSettings, tmp_path: Path) -> None:
    run_recipe("retdoc", tmp_path / "out", settings.model_copy(update={"method": "bm25"}))
    log = record.read(tmp_path / "out")
    losses = [each["loss"] for each in log if "loss" in each]
    assert losses[0] == pytest.approx(7.476, abs=0.05)
    assert losses[-1] == pytest.approx(3.73, abs=0.3)
    reader = cepe.load(str(tmp_path / "out" / "reader"), dtype="float32", device="cpu")
    assert reader.config.trained_context_tokens == settings.passages * settings.passage_tokens


@pytest.mark.slow
def test_a_run_does_not_resume_with_another_index(settings: RetdocSettings, tmp_path: Path, embedder: Path) -> None:
    run_recipe("retdoc", tmp_path / "out", settings, deadline=time.monotonic())
    indexed(tmp_path / "retrieval.jsonl", embedder)  # the same content
    run_recipe("retdoc", tmp_path / "out", settings, resume=True, deadline=time.monotonic())
    indexed(tmp_path / "retrieval.jsonl", embedder, words=13)
    with pytest.raises(ConfigError, match="index: its content has changed"):
        run_recipe("retdoc", tmp_path / "out", settings, resume=True)


def test_invalid_settings_are_named(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loop\.workers"):
        tiny_settings("retdoc", decoder, tmp_path, "loop.workers=1")
    with pytest.raises(ConfigError, match="method"):
        tiny_settings("retdoc", decoder, tmp_path, "method=magic")
    with pytest.raises(RagxError, match="nowhere"):
        run_recipe("retdoc", tmp_path / "out", tiny_settings("retdoc", decoder, tmp_path, "index=nowhere"))


def test_passages_can_be_retrieved_before_training(
    settings: RetdocSettings, decoder: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    config = tmp_path / "retdoc.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    out, few = tmp_path / "retrieved", "--loop.steps=2"
    tokenizer = load_tokenizer(decoder)
    corpus, short = open_corpus(settings.data, tokenizer), with_steps(settings, 2)
    with pytest.raises(ConfigError, match="has no passages"):
        Retrieved(out, short, corpus, tokenizer)
    command = ("train", "retrieve", "--config", config, "--out", out)
    run = run_command(*command, "--loop.steps=1")
    assert run.code == 0, run.err
    file = out / "tokens.bin"
    whole = file.stat().st_size
    record = settings.passages * (settings.passage_tokens + 1) * 2
    assert whole == record * (settings.loop.validation_examples + settings.loop.batch_size)
    with pytest.raises(ConfigError, match="lacks 8 positions"):
        Retrieved(out, short, corpus, tokenizer)
    with file.open("r+b") as tokens:
        tokens.truncate(whole - record - 5)  # killed within a record
    assert run_command(*command, few).code == 0
    assert file.stat().st_size == whole + record * settings.loop.batch_size
    retrieved, retriever = Retrieved(out, short, corpus, tokenizer), open_retriever(settings)
    for source in (short, short.model_copy(update={"masking": settings.masking.model_copy(update={"chunk": 0.0})})):
        stored, validation = examples(source, corpus, tokenizer, retrieved)
        searched, expected = examples(source, corpus, tokenizer, retriever)
        assert validation == expected
        assert [stored(position) for position in range(16)] == [searched(position) for position in range(16)]
    other = run_command(*command, few, "--query_tokens=8")
    assert other.code == 2
    assert "another query_tokens" in other.err
    reseeded = short.model_copy(update={"loop": short.loop.model_copy(update={"seed": 5})})
    with pytest.raises(ConfigError, match="another seed"):
        Retrieved(out, reseeded, corpus, tokenizer)


def test_a_run_on_retrieved_passages_needs_no_index_and_equals_one_that_searches(
    settings: RetdocSettings, tmp_path: Path
) -> None:
    short = with_steps(settings.model_copy(update={"method": "bm25"}), 2)
    run_recipe("retdoc", tmp_path / "searched", short)
    assert retrieve_all(short, tmp_path / "retrieved")
    shutil.rmtree(tmp_path / "index")
    stored = short.model_copy(update={"retrieved": str(tmp_path / "retrieved")})
    run_recipe("retdoc", tmp_path / "stored", stored)
    losses = [[row["loss"] for row in record.read(tmp_path / name) if "loss" in row] for name in ("searched", "stored")]
    assert losses[0] == losses[1]


def with_steps(settings: RetdocSettings, steps: int) -> RetdocSettings:
    return settings.model_copy(update={"loop": settings.loop.model_copy(update={"steps": steps})})


def test_workers_need_retrieved_passages(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without `retrieved`"):
        tiny_settings("retdoc", decoder, tmp_path, "loop.workers=1")
    tiny_settings("retdoc", decoder, tmp_path, "loop.workers=1", "retrieved=x")
