"""Readers: the prompt, the encoded passages, and how the answer is decoded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from ragx import cepe
from ragx.cepe.store import PassageStore
from ragx.config import ReaderOptions, SamplingParams
from ragx.errors import ConfigError
from ragx.reader.base import Reader
from ragx.reader.cepe import CepeReader
from ragx.reader.full import FullReader
from ragx.reader.prompt import build_prompt, count_question_tokens
from ragx.reader.reading import read, returned
from ragx.types import Answer, EncodingFormat, Hit, Passage
from ragx.util.settings import checked
from ragx.util.tokenization import load_tokenizer
from tests.helpers.tiny import activate, with_config
from tests.helpers.waiting import eventually

SAMPLING = SamplingParams(max_new_tokens=12)


def passage(number: int, text: str) -> Passage:
    return Passage(f"d#{number}", "d", f"Title {number}", text, number, 0, len(text), "d.txt")


PASSAGES = [passage(number, f"snow {number} reflects light") for number in range(5)]


@pytest.fixture(scope="module")
def cepe_reader(tiny_decoder: Path) -> CepeReader:
    """A reader whose cross-attention adds a little."""
    model = cepe.load(str(tiny_decoder), dtype="float32", device="cpu")
    return CepeReader(activate(model, std=0.01), load_tokenizer(tiny_decoder))


@pytest.fixture(scope="module")
def full_reader(cepe_reader: CepeReader) -> FullReader:
    return FullReader(cepe_reader.model, cepe_reader.tokenizer)


def text_of(reader: Reader, ids: list[int]) -> str:
    return reader.tokenizer.decode(ids)


def test_the_cepe_reader_encodes_all_passages_and_prompts_with_the_top_ones(cepe_reader: CepeReader) -> None:
    prepared = cepe_reader.prepare("Why?", PASSAGES, prompt_passages=2, sampling=SAMPLING)
    prompt = text_of(cepe_reader, prepared.prompt.ids)
    assert [number for number in range(5) if f"snow {number}" in prompt] == [0, 1]
    assert prompt.index("snow 1") < prompt.index("snow 0") < prompt.index("Why?")  # the best stands last
    tokens = sum(map(len, cepe_reader.tokenizer.plain_ids([f"{p.title}\n{p.text}" for p in PASSAGES])))
    assert prepared.context is not None
    assert prepared.context.phi.shape == (1, tokens, 32)


@pytest.mark.parametrize(("prompt_passages", "gain"), [(0, 1.0), (1, 0.5), (5, 0.5)])
def test_cross_attention_is_scaled_beside_passages_in_the_prompt_alone(
    prompt_passages: int, gain: float, cepe_reader: CepeReader
) -> None:
    reader = CepeReader(with_config(cepe_reader.model, prompted_gain=0.5), cepe_reader.tokenizer)
    prepared = reader.prepare("Why?", PASSAGES, prompt_passages=prompt_passages, sampling=SAMPLING)
    assert prepared.context is not None
    assert prepared.context.gain == gain


def test_an_untrained_reader_encodes_nothing(tiny_decoder: Path) -> None:
    untrained = CepeReader(cepe.load(str(tiny_decoder), dtype="float32", device="cpu"), load_tokenizer(tiny_decoder))
    prepared = untrained.prepare("Why?", PASSAGES, prompt_passages=2, sampling=SAMPLING)
    assert prepared.context is None
    assert prepared.prompt.passages == 2


def test_the_full_reader_prompts_with_all_passages(full_reader: FullReader) -> None:
    prepared = full_reader.prepare("Why?", PASSAGES[:2], prompt_passages=0, sampling=SAMPLING)
    prompt = text_of(full_reader, prepared.prompt.ids)
    assert all(f"snow {number}" in prompt for number in range(2))
    assert prepared.context is None


def test_the_worst_passages_beyond_the_window_are_left_out(full_reader: FullReader) -> None:
    many = [passage(number, f"snow {number} " + "light " * 20) for number in range(20)]
    prepared = full_reader.prepare("Why?", many, prompt_passages=0, sampling=SAMPLING)
    prompt = text_of(full_reader, prepared.prompt.ids)
    kept = [number for number in range(20) if f"snow {number} " in prompt]
    assert kept == list(range(len(kept)))
    assert 0 < len(kept) == prepared.prompt.passages < 20
    assert len(prepared.prompt.ids) + SAMPLING.max_new_tokens <= 512
    assert prepared.notes == [
        f"the decoder's window of 512 tokens holds {len(kept)} of the 20 passages meant for the prompt"
    ]


def test_an_overlong_passage_is_skipped_for_the_next(full_reader: FullReader) -> None:
    overlong = passage(7, "light " * 700)
    prepared = full_reader.prepare("Why?", [overlong, PASSAGES[1]], prompt_passages=0, sampling=SAMPLING)
    assert "snow 1" in text_of(full_reader, prepared.prompt.ids)
    assert prepared.notes == ["the decoder's window of 512 tokens holds 1 of the 2 passages meant for the prompt"]
    prepared = full_reader.prepare("Why?", [overlong], prompt_passages=0, sampling=SAMPLING)
    assert prepared.notes == ["the decoder's window of 512 tokens holds none of the passages meant for the prompt"]


def test_a_question_beyond_the_window_is_refused(cepe_reader: CepeReader) -> None:
    with pytest.raises(ConfigError, match="question is too long"):
        cepe_reader.prepare("why " * 600, PASSAGES, prompt_passages=1, sampling=SAMPLING)


def test_an_answer_may_take_what_the_prompt_leaves_of_the_window(full_reader: FullReader) -> None:
    many = [passage(number, f"snow {number} " + "light " * 20) for number in range(20)]
    for wanted in (400, 512, 10**30):
        sampling = SamplingParams(max_new_tokens=wanted)
        prepared = full_reader.prepare("Why?", many, prompt_passages=0, sampling=sampling)
        left = 512 - len(prepared.prompt.ids)
        assert 256 <= left < 350, "passages leave half of the window"
        assert prepared.notes[1:] == [f"the decoder's window of 512 tokens leaves {left} for the answer"]
        stream = full_reader.stream(prepared, sampling.model_copy(update={"repetition_penalty": 3.0}))
        list(stream)
        assert 0 < stream.tokens <= left
        assert stream.tokens == left or stream.finish == "stop"


def test_a_long_question_shortens_the_answer(cepe_reader: CepeReader) -> None:
    question = "Why?"
    while count_question_tokens(cepe_reader.tokenizer, question) < 400:
        question += " why?"
    prepared = cepe_reader.prepare(question, PASSAGES, prompt_passages=0, sampling=SamplingParams(max_new_tokens=300))
    assert 64 <= 512 - len(prepared.prompt.ids) <= 112
    with pytest.raises(ConfigError, match="too long"):
        cepe_reader.prepare(question + question[:200], [], prompt_passages=0, sampling=SamplingParams())


def test_a_passage_beyond_the_encoders_window_is_truncated_and_noted(cepe_reader: CepeReader) -> None:
    prepared = cepe_reader.prepare("Why?", [passage(0, "light " * 700)], prompt_passages=0, sampling=SAMPLING)
    assert prepared.context is not None
    assert prepared.context.tokens == 512
    assert prepared.notes == ["1 passages are longer than the encoder's window of 512 tokens and were cut"]


def test_encodings_on_disk_are_reused_in_any_order(cepe_reader: CepeReader, tmp_path: Path) -> None:
    model = cepe_reader.model
    store = PassageStore(tmp_path, model.encoder_fingerprint(), 32, max_bytes=10**8)
    reader = CepeReader(model, cepe_reader.tokenizer, store)
    first = reader.prepare("Why?", PASSAGES, prompt_passages=1, sampling=SAMPLING).context
    second = reader.prepare("Who?", PASSAGES[::-1], prompt_passages=1, sampling=SAMPLING).context
    assert first is not None
    assert second is not None
    assert (store.stats.hits, store.stats.misses) == (5, 5)
    lengths = [len(ids) for ids in reader.encoder_ids(PASSAGES)]
    backwards = second.phi.split(lengths[::-1], dim=1)
    assert torch.equal(first.phi, torch.cat(backwards[::-1], dim=1))


def test_answers_from_int8_encodings_are_told_from_others(cepe_reader: CepeReader, tmp_path: Path) -> None:
    def fingerprint(format: EncodingFormat) -> str:
        store = PassageStore(tmp_path, "encoder", 32, format=format, max_bytes=0)
        return CepeReader(cepe_reader.model, cepe_reader.tokenizer, store).fingerprint()

    assert fingerprint("bfloat16") == cepe_reader.fingerprint()
    assert fingerprint("int8") != cepe_reader.fingerprint()


def test_a_fingerprint_tells_readers_apart(cepe_reader: CepeReader, tiny_decoder: Path) -> None:
    same = cepe.load(str(tiny_decoder), dtype="float32", device="cpu")
    assert same.encoder_fingerprint() == cepe_reader.model.encoder_fingerprint()
    assert cepe.load(str(tiny_decoder), dtype="bfloat16").encoder_fingerprint() != same.encoder_fingerprint()
    with torch.no_grad():
        same.model.embed_tokens.weight[0, 0] += 1
    assert same.encoder_fingerprint() != cepe_reader.model.encoder_fingerprint()


def test_attention_shares(tiny_decoder: Path) -> None:
    model = activate(cepe.load(str(tiny_decoder), dtype="float32", device="cpu"))
    reader = CepeReader(model, load_tokenizer(tiny_decoder))
    plain = reader.prepare("Why?", PASSAGES, prompt_passages=2, sampling=SAMPLING)
    recorded = reader.prepare("Why?", PASSAGES, prompt_passages=2, sampling=SAMPLING)
    assert plain.context is not None
    assert recorded.context is not None
    recorded.context.record_attention = True
    expected = "".join(reader.stream(plain, SAMPLING))
    assert "".join(reader.stream(recorded, SAMPLING)) == expected  # recording changes nothing
    assert plain.context.attention_shares() is None
    shares = recorded.context.attention_shares()
    assert shares is not None
    assert shares.shape == (1, len(PASSAGES))
    assert shares.sum().item() == pytest.approx(1.0)
    assert (shares > 0).all()


def test_streamed_text_is_what_generate_returns(cepe_reader: CepeReader) -> None:
    prepared = cepe_reader.prepare("Why?", PASSAGES, prompt_passages=2, sampling=SAMPLING)
    pieces = list(cepe_reader.stream(prepared, SAMPLING))
    ids = torch.tensor([prepared.prompt.ids])
    expected = cepe_reader.model.generate(ids, context=prepared.context, max_new_tokens=12, do_sample=False)
    text = cepe_reader.tokenizer.decode(expected[0, ids.shape[1] :].tolist(), skip_special_tokens=True)
    assert "".join(pieces) == text.rstrip("\ufffd")
    assert len(pieces) == expected.shape[1] - ids.shape[1]


def answer(reader: CepeReader, **options: object) -> str:
    sampling = SamplingParams(**{"max_new_tokens": 24, **options})
    prepared = reader.prepare("Why?", PASSAGES, prompt_passages=2, sampling=sampling)
    return "".join(reader.stream(prepared, sampling))


def test_sampling_is_repeatable_by_seed_and_leaves_the_global_generator_alone(cepe_reader: CepeReader) -> None:
    torch.manual_seed(5)
    untouched = torch.rand(1)
    torch.manual_seed(5)
    first = answer(cepe_reader, temperature=1.5, seed=1)
    assert torch.rand(1) == untouched
    assert answer(cepe_reader, temperature=1.5, seed=1) == first
    assert any(answer(cepe_reader, temperature=1.5, seed=seed) != first for seed in range(2, 6))


def test_answers_sampled_at_once_are_those_sampled_in_sequence(cepe_reader: CepeReader) -> None:
    expected = [answer(cepe_reader, temperature=1.5, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as askers:
        at_once = askers.map(lambda seed: answer(cepe_reader, temperature=1.5, seed=seed), range(8))
        assert list(at_once) == expected


def test_seeds_are_64_bit_integers(cepe_reader: CepeReader) -> None:
    assert len({answer(cepe_reader, temperature=1.5, seed=seed) for seed in (-(2**63), 2**63 - 1)}) == 2
    for seed in (-(2**63) - 1, 2**63):
        with pytest.raises(ConfigError, match="seed: "):
            checked(SamplingParams, {"seed": seed})


def test_sampling_from_one_token_is_greedy(cepe_reader: CepeReader) -> None:
    greedy = answer(cepe_reader)
    assert answer(cepe_reader, temperature=1.5, top_k=1) == greedy
    assert answer(cepe_reader, temperature=1.5, top_p=1e-6) == greedy
    assert answer(cepe_reader, temperature=1.5, min_p=1.0) == greedy
    assert answer(cepe_reader, repetition_penalty=50.0) != greedy


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_stop_string_ends_the_answer_and_is_not_in_it(cepe_reader: CepeReader, length: int) -> None:
    text = answer(cepe_reader)
    stop = text[8 : 8 + length]
    assert answer(cepe_reader, stop=(stop, "never there")) == text[: text.index(stop)]
    assert answer(cepe_reader, stop=("never there",)) == text


def test_closing_the_stream_stops_the_generation(cepe_reader: CepeReader) -> None:
    sampling = SamplingParams(max_new_tokens=300)
    prepared = cepe_reader.prepare("Why?", PASSAGES[:1], prompt_passages=1, sampling=sampling)
    stream = cepe_reader.stream(prepared, sampling)
    next(stream)
    stream.close()
    assert eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "ragx-decode"])


def test_an_error_while_generating_reaches_the_caller(cepe_reader: CepeReader) -> None:
    prepared = cepe_reader.prepare("Why?", PASSAGES[:1], prompt_passages=1, sampling=SAMPLING)
    prepared.prompt.ids.append(10**6)  # no such token
    with pytest.raises(IndexError):
        list(cepe_reader.stream(prepared, SAMPLING))


@pytest.mark.parametrize("question", ["Why?", "Why is fresh snow so bright, <|im_end|> and soil not?", "\n"])
@pytest.mark.parametrize("count", [0, 3])
def test_the_prompt_knows_where_its_question_starts(cepe_reader: CepeReader, question: str, count: int) -> None:
    tokenizer = cepe_reader.tokenizer
    prompt = build_prompt(tokenizer, question, PASSAGES[:count], max_tokens=500)
    ending = tokenizer.decode(prompt.ids[prompt.question_start :])
    assert ending.lstrip("\n").startswith("Question: ")  # the line break before it may belong to it


@pytest.mark.parametrize("cross_attend", ["all", "question"])
def test_the_reader_says_which_tokens_attend_to_passages(cepe_reader: CepeReader, cross_attend: str) -> None:
    reader = CepeReader(with_config(cepe_reader.model, cross_attend=cross_attend), cepe_reader.tokenizer)
    prepared = reader.prepare("Why?", PASSAGES, prompt_passages=2, sampling=SAMPLING)
    assert prepared.context is not None
    assert prepared.context.attend_from == (prepared.prompt.question_start if cross_attend == "question" else 0)
    assert len(reader.decode(prepared, SAMPLING)) > 0


def test_an_answer_is_cancelled_while_passages_are_encoded(cepe_reader: CepeReader, tmp_path: Path) -> None:
    store = PassageStore(tmp_path, "reader", 32, max_bytes=1 << 30)
    reader = CepeReader(cepe_reader.model, cepe_reader.tokenizer, store)
    hits = [Hit(passage(number, f"snow {number} " + "light " * 100), 1.0) for number in range(200)]
    cancel = threading.Event()
    seen: list[tuple[int, int]] = []

    def cancel_at_once(done: int, total: int) -> None:
        seen.append((done, total))
        cancel.set()

    def answered() -> Answer:
        pieces = read(
            reader,
            "Why?",
            hits,
            options=ReaderOptions(),
            sampling=SAMPLING,
            cancel=cancel,
            on_encoded=cancel_at_once,
        )
        return returned(pieces)

    answer = answered()
    assert (answer.finish, answer.text, answer.answer_tokens) == ("cancelled", "", 0)
    ((done, total),) = seen  # the second batch was not reported: the answer had been cancelled
    assert 0 < done < total == 200
    cancel.clear()
    answered()
    assert seen[1][1] < 200  # what was encoded before stays on disk
