"""A model of ragx in the lm-evaluation-harness gives what the harness's own model gives, and the encoder the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="docs/adapters.md says how to install lm_eval")

import lm_eval
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from ragx.errors import ConfigError
from ragx.evaluation.lm_harness import RagxLM
from ragx.evaluation.scoring import score
from tests.evaluation.conftest import text
from tests.helpers.tiny import save_tiny_reader

WINDOW = 512
PAIRS = [
    ("fresh snow reflects most of", " the sunlight"),
    ("fresh snow reflects most of ", "the sunlight"),
    ("", "dark soil absorbs it"),
    ("<|im_start|>user\nsnow?<|im_end|>\n", "soil"),
    (text(1, 900), " fresh snow"),
    ("dark soil", " absorbs"),
]


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


@pytest.fixture(scope="module")
def plain(tiny_decoder: Path) -> RagxLM:
    return RagxLM(str(tiny_decoder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def theirs(tiny_decoder: Path) -> HFLM:
    return HFLM(str(tiny_decoder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def trained(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> RagxLM:
    folder = save_tiny_reader(tmp_path_factory.mktemp("reader"), tiny_decoder)
    return RagxLM(str(folder), decoder_tokens=100, device="cpu", dtype="float32")


def greedy_pair(lm: RagxLM) -> tuple[str, str]:
    """A context and the most likely token after it, one of those that are characters by themselves."""
    contexts = [text(seed, 5) for seed in range(50)]
    answers = lm.generate_until(requests("generate_until", *((each, {"max_gen_toks": 1}) for each in contexts)))
    return next(pair for pair in zip(contexts, answers, strict=True) if pair[1].isascii() and pair[1].isalpha())


def whole(answer: str) -> str:
    """The answer without an incomplete last character, which ragx drops."""
    return answer.rstrip("\ufffd")


def test_log_likelihoods_are_those_of_the_harness(plain: RagxLM, theirs: HFLM) -> None:
    asked = requests("loglikelihood", *PAIRS, greedy_pair(plain))
    ours, expected = plain.loglikelihood(asked), theirs.loglikelihood(asked)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in expected], rel=1e-4)
    assert [is_greedy for _, is_greedy in ours] == [is_greedy for _, is_greedy in expected]
    assert {is_greedy for _, is_greedy in ours} == {True, False}


def test_whole_texts_have_the_log_likelihoods_of_the_harness(plain: RagxLM, theirs: HFLM) -> None:
    texts = ["snow", text(2, 30), text(3, 1200)]
    assert len(plain.tok_encode(texts[-1])) > 2 * WINDOW
    asked = requests("loglikelihood_rolling", *((each,) for each in texts))
    assert plain.loglikelihood_rolling(asked) == pytest.approx(theirs.loglikelihood_rolling(asked), rel=1e-4)


def test_generation_is_that_of_the_harness(plain: RagxLM, theirs: HFLM) -> None:
    contexts = ["fresh snow reflects", "dark", text(4, 900)]
    arguments: list[dict[str, Any]] = [{"max_gen_toks": 12}, {"until": ["e"], "max_gen_toks": 30}, {"max_tokens": 5}]
    asked = requests("generate_until", *((context, each) for context in contexts for each in arguments))
    answers = [whole(each) for each in plain.generate_until(asked)]
    assert answers == [whole(each) for each in theirs.generate_until(asked)]
    assert all(answers[::3])


def test_a_temperature_samples_with_a_seed(plain: RagxLM) -> None:
    arguments = {"temperature": 2.0, "top_p": 0.9, "max_gen_toks": 20, "seed": 1}
    first, again, other = plain.generate_until(
        requests("generate_until", ("snow", arguments), ("snow", arguments), ("snow", {**arguments, "seed": 2}))
    )
    assert first == again != other


def test_chats_are_those_of_the_harness(plain: RagxLM, theirs: HFLM) -> None:
    chat = [{"role": "user", "content": "snow?"}]
    assert plain.apply_chat_template(chat) == theirs.apply_chat_template(chat)
    begun = [*chat, {"role": "assistant", "content": "It reflects"}]
    assert plain.apply_chat_template(begun, add_generation_prompt=False).endswith("It reflects")
    assert plain.chat_template(True) == theirs.chat_template(True)
    assert plain.tokenizer_name == theirs.tokenizer_name
    prompt = plain.apply_chat_template(chat)
    assert plain.tok_encode(prompt) == theirs.tok_encode(prompt)


def test_the_encoder_reads_what_precedes_the_decoders_tokens(trained: RagxLM) -> None:
    context, continuation = text(1, 900), " fresh snow"
    ids, last = trained.tok_encode(context + continuation), len(trained.tok_encode(continuation))
    before, kept = ids[:-101], ids[-101:]
    chunks = [before[start : start + 256] for start in range(0, len(before), 256)]
    values, alone = (score(trained.model, kept, passages, last=last) for passages in (chunks, []))
    ((result, _),) = trained.loglikelihood(requests("loglikelihood", (context, continuation)))
    assert len(chunks) > 2
    assert result == pytest.approx(-values["nll"], rel=1e-6)
    assert result != pytest.approx(-alone["nll"], rel=1e-3)


def test_a_whole_text_is_scored_once_with_all_before_it(trained: RagxLM) -> None:
    said = text(2, 150)
    ids = [trained.prefix_token_id, *trained.tok_encode(said)]
    assert 200 < len(ids) - 1 < 300
    pieces = [(ids[:101], [], 100), (ids[100:201], [ids[:100]], 100), (ids[-101:], [ids[:-101]], len(ids) - 201)]
    expected = -sum(score(trained.model, kept, before, last=count)["nll"] for kept, before, count in pieces)
    (result,) = trained.loglikelihood_rolling(requests("loglikelihood_rolling", (said,)))
    assert result == pytest.approx(expected, rel=1e-6)


@torch.inference_mode()
def test_what_is_generated_is_what_is_most_likely_after_all_before_it(trained: RagxLM) -> None:
    said = text(5, 900)
    ids = trained.tok_encode(said)
    kept, before = ids[-94:], ids[:-94]
    context = trained.model.encode_passages([before[start : start + 256] for start in range(0, len(before), 256)])
    for _ in range(6):
        kept.append(int(trained.model(input_ids=torch.tensor([kept]), context=context).logits[0, -1].argmax()))
    (answer,) = trained.generate_until(requests("generate_until", (said, {"max_gen_toks": 6})))
    assert whole(answer) == whole(trained.tokenizer.decode(kept[94:]))


def test_mistakes_are_named(plain: RagxLM, trained: RagxLM, tiny_decoder: Path) -> None:
    with pytest.raises(ConfigError, match="decoder_tokens must be between 1 and 512, got 600"):
        RagxLM(str(tiny_decoder), decoder_tokens=600)
    with pytest.raises(ConfigError, match="only the torch backend"):
        RagxLM("openai:gpt")
    with pytest.raises(ConfigError, match="max_gen_toks: 100 tokens leave none"):
        trained.generate_until(requests("generate_until", ("snow", {"max_gen_toks": 100})))
    with pytest.raises(ConfigError, match="no argument 'num_beams'"):
        plain.generate_until(requests("generate_until", ("snow", {"num_beams": 4})))
    with pytest.raises(ConfigError, match="do not hold a continuation of"):
        trained.loglikelihood(requests("loglikelihood", ("snow", text(1, 200))))


@pytest.mark.slow
def test_a_task_runs_from_end_to_end(plain: RagxLM, theirs: HFLM, tmp_path: Path) -> None:
    rows = [
        {"question": f"What reflects {word}?", "choices": ["snow", "dark soil", "the sun"], "label": number % 3}
        for number, word in enumerate(["light", "most", "it", "the sunlight"])
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
    choice = {
        "task": "tiny_choice",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        **common,
    }
    written = {
        "task": "tiny_written",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[label]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
        **common,
    }
    results = [
        lm_eval.simple_evaluate(
            model=lm,
            tasks=[dict(choice), dict(written)],
            task_manager=TaskManager(include_defaults=False),
            num_fewshot=1,
            apply_chat_template=True,
            bootstrap_iters=0,
        )["results"]
        for lm in (plain, theirs)
    ]
    assert results[0]["tiny_choice"]["acc,none"] == results[1]["tiny_choice"]["acc,none"]
    assert results[0]["tiny_written"] == results[1]["tiny_written"]
