"""Readers in vLLM on the CPU give the tokens and logprobs of the torch reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from ragx_vllm.export import export
from transformers import DynamicCache

from ragx import cepe
from ragx.cepe.model import CepeModel
from ragx.util.tokenization import Tokenizer, load_tokenizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="apps/ragx_vllm/README.md says how to install vLLM for the CPU"
    ),
]
TOLERANCE = 5e-4
"""Of logprobs in float32, of a decoder whose random weights make large ones."""
END = 2
STEPS = 12
OVERRIDES = {"cross_attend": "question", "prompted_gain": 0.5, "sharpen_beyond": 20}
LONG = "it <|im_end|> and what follows. " * 6
SETS: list[list[str] | None] = [["fresh snow reflects"], ["dark soil", "absorbs", LONG], [], None, ["x", "soil"]]


@dataclass(frozen=True)
class Case:
    """A prompt and its passages, with the torch reader's answer."""

    request: dict[str, Any]
    tokens: list[int]
    logprobs: list[torch.Tensor]


@torch.inference_mode()
def torch_answer(
    model: CepeModel, tokenizer: Tokenizer, number: int, passages: list[str] | None, **options: Any
) -> Case:
    """The torch reader's greedy answer to one of several prompts."""
    ids = tokenizer.chat_ids(["what does snow do?", "soil?", "what is dark?", "light", "and then"][number])
    context = None
    if passages:
        context = model.encode_passages(tokenizer.plain_ids(passages))
        context.sharpen_beyond = OVERRIDES["sharpen_beyond"]
        context.gain = OVERRIDES["prompted_gain"] if options.get("prompted") else 1.0
        context.attend_from = options.get("question_start", 0)
    cache, step, tokens, logprobs = DynamicCache(), ids, [], []
    while len(tokens) < STEPS and END not in tokens:
        output = model(torch.tensor([step]), past_key_values=cache, context=context, use_cache=True)
        logprobs.append(output.logits[0, -1].log_softmax(dim=-1))
        step = [int(logprobs[-1].argmax())]
        tokens += step
    sent = {} if passages is None else {"passages": {"texts": passages, "question_start": 0, **options}}
    return Case({"ids": ids, **sent}, tokens, logprobs)


def with_encodings(model: CepeModel, tokenizer: Tokenizer, case: Case) -> Case:
    phi = model.encode_passages(tokenizer.plain_ids(case.request["passages"]["texts"])).phi[0]
    request = {**case.request, "passages": {"encodings": phi.detach().tolist(), "question_start": 0}}
    return Case(request, case.tokens, case.logprobs)


def vllm_answers(folder: Path, batches: list[list[Case]], requests: Path) -> list[list[dict[str, Any]]]:
    requests.write_text(json.dumps([[case.request for case in batch] for batch in batches]))
    script = Path(__file__).with_name("answers.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(script), str(folder), str(requests), json.dumps(OVERRIDES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("ANSWERS "))
    answers: list[list[dict[str, Any]]] = json.loads(line.removeprefix("ANSWERS "))
    return answers


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_answers_are_those_of_the_torch_reader(
    save_vllm_reader: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    reader = save_vllm_reader(family)
    export(str(reader), tmp_path / "vllm", dtype="float32")
    model, tokenizer = cepe.load(str(reader), dtype="float32", device="cpu"), load_tokenizer(tmp_path / "vllm")
    alone = [torch_answer(model, tokenizer, number, passages) for number, passages in enumerate(SETS)]
    options = {"prompted": True, "question_start": 5}
    prompted = [torch_answer(model, tokenizer, number, SETS[number], **options) for number in (0, 1, 4)]
    encoded = [with_encodings(model, tokenizer, alone[number]) for number in (0, 1, 4)]
    together = [*prompted[:2], alone[3], encoded[1], prompted[2]]
    batches = [*([case] for case in alone), alone, encoded, together]
    assert len({tuple(case.tokens) for case in alone}) == len(alone)  # passages matter
    for batch, answers in zip(batches, vllm_answers(tmp_path / "vllm", batches, tmp_path / "requests"), strict=True):
        for case, answer in zip(batch, answers, strict=True):
            assert answer["tokens"] == case.tokens
            for expected, given in zip(case.logprobs, answer["logprobs"], strict=True):
                tokens = [int(token) for token in given]
                torch.testing.assert_close(torch.tensor(list(given.values())), expected[tokens], atol=TOLERANCE, rtol=0)
