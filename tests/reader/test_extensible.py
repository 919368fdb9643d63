"""The extensible reader: what it reads, and that its embeddings are kept on disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from ragx.config import ModelOptions, ReaderOptions, SamplingParams
from ragx.engine.open import choose_backend
from ragx.engine.prefix import Prefix
from ragx.errors import ConfigError
from ragx.extensible.embedder import embed
from ragx.rag import RAG
from ragx.reader.base import PreparedPrompt, Reader, choose_reader
from ragx.reader.extensible import ExtensibleReader
from ragx.reader.loading import open_readers
from ragx.reader.prompt import passage_text
from ragx.types import Hit, Passage
from tests.helpers.tiny import save_decoder
from tests.helpers.tiny_embedders import save_tiny_embedder

SAMPLING = SamplingParams(max_new_tokens=12)
TEXTS = ["snow reflects light", "dark soil absorbs it, most of it", "the sun", "light " * 20]
PASSAGES = [Passage(f"d#{n}", "d", f"Title {n}", text, n, 0, len(text), "d.txt") for n, text in enumerate(TEXTS)]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def decoder(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tiny_decoder, tmp_path_factory.mktemp("decoder"), dirs_exist_ok=True))
    save_decoder(folder, vocab_size=340, hidden_size=64, head_dim=16, max_position_embeddings=512)
    return folder


@pytest.fixture(scope="module")
def folder(decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_embedder(tmp_path_factory.mktemp("embedder"), decoder)


def options(model: Path, ratio: int | None = None) -> ModelOptions:
    return ModelOptions(model=str(model), device="cpu", dtype="float32", ratio=ratio)


def open_reader(folder: Path, ratio: int | None = None) -> ExtensibleReader:
    reader = open_readers(options(folder, ratio))[0]["extensible"]
    assert isinstance(reader, ExtensibleReader)
    return reader


def prepare(reader: Reader, passages: Sequence[Passage], prompt_passages: int = 1) -> PreparedPrompt:
    return reader.prepare("Why?", passages, prompt_passages=prompt_passages, sampling=SAMPLING)


def prefix(prepared: PreparedPrompt) -> torch.Tensor:
    assert isinstance(prepared.layout, Prefix)
    return prepared.layout.embeddings


def test_a_model_with_an_embedder_reads_with_it_by_default(folder: Path) -> None:
    assert choose_backend(ModelOptions(model=str(folder), device="cpu")) == ("torch", "it has an extensible embedder")
    readers, notes = open_readers(options(folder))
    assert choose_reader(readers, None) is readers["extensible"]
    assert set(readers) == {"extensible", "full", "replug", "streaming", "cepe"}
    assert notes == []


def test_a_model_without_one_cannot(decoder: Path) -> None:
    readers, _ = open_readers(ModelOptions(model=str(decoder), backend="torch", device="cpu"))
    with pytest.raises(ConfigError, match="extensible needs a model of `ragx train extensible`"):
        choose_reader(readers, "extensible")
    with pytest.raises(ConfigError, match="has no extensible embedder"):
        open_readers(options(decoder, 4))


@pytest.mark.parametrize("ratio", [2, 8])
def test_passages_that_are_not_in_the_prompt_are_embedded_the_best_one_last(folder: Path, ratio: int) -> None:
    reader = open_reader(folder, ratio)
    prepared = prepare(reader, PASSAGES)
    assert prepared.prompt.passages == 1
    assert PASSAGES[0].text in reader.tokenizer.decode(prepared.prompt.ids)
    chunks = []
    for passage in reversed(PASSAGES[1:]):
        ids = reader.tokenizer.plain_ids([passage_text(passage)])[0]
        chunks += [ids[start : start + 8] for start in range(0, len(ids), 8)]
    with torch.no_grad():
        expected = torch.cat(embed(reader.model, chunks, ratio))  # type: ignore[arg-type]
    torch.testing.assert_close(prefix(prepared), expected.bfloat16().to(expected.dtype))  # as stored
    assert prepared.context_tokens == sum(map(len, chunks))
    assert reader.room(prepared) == 512 - len(expected) - len(prepared.prompt.ids)


def test_without_passages_it_is_the_full_reader(folder: Path) -> None:
    readers, _ = open_readers(options(folder))
    for passages in ([], PASSAGES[:2]):
        one, other = prepare(readers["extensible"], passages, 2), prepare(readers["full"], passages)
        assert one.layout is None
        assert readers["extensible"].decode(one, SAMPLING) == readers["full"].decode(other, SAMPLING)


def answer(reader: Reader, passages: Sequence[Passage]) -> str:
    return reader.decode(prepare(reader, passages), SAMPLING)


def test_the_answer_is_that_of_plain_decoding_after_the_embeddings(folder: Path) -> None:
    reader = open_reader(folder)
    prepared, model = prepare(reader, PASSAGES), reader.model
    answered: list[int] = []
    while len(answered) < 12 and not reader.ends & set(answered):
        ids = torch.tensor(prepared.prompt.ids + answered)
        with torch.no_grad():
            inputs = torch.cat([prefix(prepared), model.model.embed_tokens(ids)])[None]  # type: ignore[attr-defined]
            answered.append(int(model(inputs_embeds=inputs).logits[0, -1].argmax()))  # type: ignore[operator]
    plain = reader.tokenizer.decode([token for token in answered if token not in reader.ends])
    assert answer(reader, PASSAGES) == plain.strip()


def test_answers_beside_others_are_those_alone(folder: Path) -> None:
    readers, _ = open_readers(options(folder))
    asks = [(readers[name], PASSAGES[start:]) for start in range(3) for name in ("extensible", "full")]
    alone = [answer(*ask) for ask in asks]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda ask: answer(*ask), asks)) == alone


def test_embeddings_are_computed_once_for_each_ratio(folder: Path) -> None:
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    def read(ratio: int) -> torch.Tensor:
        reader = open_reader(folder, ratio)
        assert reader.model.extensible is not None  # type: ignore[attr-defined]
        reader.model.extensible.register_forward_hook(count)  # type: ignore[attr-defined]
        embeddings = prefix(prepare(reader, PASSAGES))
        reader.close()
        return embeddings

    first, again = read(4), read(4)
    assert runs == 1
    assert torch.equal(first, again)
    assert len(read(2)) > len(first)
    assert runs == 2


def test_what_the_window_does_not_hold_is_left_out_from_the_end(folder: Path) -> None:
    reader = open_reader(folder, 2)
    long = Passage("d#9", "d", "", "light " * 900, 9, 0, 5400, "d.txt")
    prepared = prepare(reader, [*PASSAGES, long])
    assert torch.equal(prefix(prepared), prefix(prepare(reader, PASSAGES)))
    assert prepared.notes == ["the decoder's window of 512 tokens holds the embeddings of 3 of 4 passages"]


def test_python_reads_with_a_ratio(folder: Path) -> None:
    with RAG.from_model(options(folder, 8)) as rag:
        found = rag.read("Why?", [Hit(each, 1.0) for each in PASSAGES], options=ReaderOptions(prompt_passages=1))
    assert found.context_tokens > 0
    assert found.attention_shares is None


def test_a_ratio_divides_a_chunk(folder: Path) -> None:
    with pytest.raises(ConfigError, match="ratio must divide the 8 tokens"):
        open_reader(folder, 3)
