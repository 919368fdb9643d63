"""replug and streaming: the same passages, questions and decoders as the other readers, on either backend."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ragx import cepe
from ragx.config import ModelOptions, SamplingParams
from ragx.engine.cpu.compile import compile_reader
from ragx.engine.cpu.model import CpuModel
from ragx.engine.mixture import Mixture
from ragx.errors import ConfigError
from ragx.reader.base import Reader, choose_reader
from ragx.reader.full import FullReader
from ragx.reader.loading import open_readers
from ragx.reader.registry import for_reader
from ragx.reader.replug import ReplugReader
from ragx.reader.streaming import StreamingReader
from ragx.types import Passage
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny import save_decoder

SAMPLING = SamplingParams(max_new_tokens=12)
TEXTS = ["snow reflects light", "dark soil absorbs it, most of it", "the sun", "light " * 20]
PASSAGES = [Passage(f"d#{n}", "d", f"Title {n}", text, n, 0, len(text), "d.txt") for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def decoder(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tiny_decoder, tmp_path_factory.mktemp("decoder"), dirs_exist_ok=True))
    save_decoder(folder, vocab_size=340, hidden_size=64, head_dim=16, max_position_embeddings=512)
    return folder


@pytest.fixture(scope="module", params=["torch", "cpu"])
def full(decoder: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FullReader:
    model = cepe.load(str(decoder), dtype="float32", device="cpu", plain=True)
    if request.param == "torch":
        return FullReader(model, load_tokenizer(decoder))
    folder = tmp_path_factory.mktemp("compiled")
    compile_reader(model, folder)
    return FullReader(CpuModel(folder), load_tokenizer(decoder))


@pytest.fixture(scope="module")
def replug(full: FullReader) -> ReplugReader:
    return ReplugReader(full.model, full.tokenizer, full.batch)


def answer(reader: Reader, passages: Sequence[Passage], scores: Sequence[float] | None = None) -> str:
    prepared = reader.prepare("Why?", passages, prompt_passages=0, sampling=SAMPLING, scores=scores)
    return reader.decode(prepared, SAMPLING)


@pytest.mark.parametrize("count", [0, 1])
def test_replug_with_one_passage_is_the_full_reader(full: FullReader, replug: ReplugReader, count: int) -> None:
    assert answer(replug, PASSAGES[:count]) == answer(full, PASSAGES[:count])


def test_replug_follows_the_passage_that_outweighs_the_others(full: FullReader, replug: ReplugReader) -> None:
    answers = [answer(full, [each]) for each in PASSAGES]
    assert len(set(answers)) == len(PASSAGES)
    for number, alone in enumerate(answers):
        scores = [100.0 * (number == place) for place in range(len(PASSAGES))]
        assert answer(replug, PASSAGES, scores) == alone
    assert answer(ReplugReader(full.model, full.tokenizer, temperature=1e6), PASSAGES, scores) == answer(
        replug, PASSAGES
    )


def test_replug_answers_beside_others_are_those_alone(full: FullReader, replug: ReplugReader) -> None:
    asks = [(reader, PASSAGES[start:]) for start in range(3) for reader in (replug, full)]
    alone = [answer(*ask) for ask in asks]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda ask: answer(*ask), asks)) == alone


def test_a_replug_prompt_holds_one_passage_and_leaves_the_answer_its_room(replug: ReplugReader) -> None:
    long = Passage("d#9", "d", "", "light " * 700, 9, 0, 4200, "d.txt")
    prepared = replug.prepare("Why?", [*PASSAGES, long], prompt_passages=0, sampling=SAMPLING)
    assert isinstance(prepared.layout, Mixture)
    assert prepared.prompt.passages == len(PASSAGES)
    start = 0
    for passage, length in zip(PASSAGES, prepared.layout.lengths, strict=False):
        text = replug.tokenizer.decode(prepared.prompt.ids[start : start + length])
        assert passage.text.rstrip() in text
        assert "Question: Why?" in text
        start += length
    assert replug.room(prepared) == 512 - max(prepared.layout.lengths)
    assert prepared.notes == ["the decoder's window of 512 tokens holds none of the passages meant for the prompt"]


@pytest.mark.parametrize("full", ["torch"], indirect=True)
def test_streaming_reads_prompts_beyond_the_window(full: FullReader) -> None:
    streaming = StreamingReader(full.model, full.tokenizer, full.batch)
    assert answer(streaming, PASSAGES) == answer(full, PASSAGES), "all fits into the cache"
    many = PASSAGES * 10
    prepared = streaming.prepare("Why?", many, prompt_passages=0, sampling=SAMPLING)
    assert prepared.prompt.passages == len(many)
    assert len(prepared.prompt.ids) > 600
    alone = answer(streaming, many)
    assert alone
    asks = [(streaming, many), (full, PASSAGES[:2]), (streaming, PASSAGES * 8), (streaming, many)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda ask: answer(*ask), asks))
    assert (together[0], together[3]) == (alone, alone)
    assert together[1:3] == [answer(*ask) for ask in asks[1:3]]


def test_a_decoder_without_a_cepe_reader_reads_as_full(decoder: Path) -> None:
    readers, notes = open_readers(ModelOptions(model=str(decoder), backend="torch", device="cpu"))
    assert choose_reader(readers, None) is readers["full"]
    assert notes == [f"{decoder} has no trained CEPE reader: it reads as full by default"]
    assert set(readers) == {"cepe", "full", "replug", "streaming"}
    prepared = readers["cepe"].prepare("Why?", PASSAGES, prompt_passages=1, sampling=SAMPLING)
    assert any("no trained CEPE reader" in note for note in prepared.notes)
    assert not [name for name, _ in readers["full"].model.named_parameters() if "cross_attn" in name]  # type: ignore[attr-defined]


def test_streaming_picks_the_torch_backend(decoder: Path) -> None:
    options = ModelOptions(model=str(decoder))
    assert for_reader(options, "streaming").backend == "torch"
    assert [for_reader(options, name).backend for name in ("cepe", "replug", None)] == ["auto"] * 3  # type: ignore[arg-type]
    readers, _ = open_readers(for_reader(options.model_copy(update={"backend": "cpu"}), "streaming"))
    with pytest.raises(ConfigError, match="streaming needs the torch backend"):
        choose_reader(readers, "streaming")
    assert choose_reader(readers, "replug") is readers["replug"]
