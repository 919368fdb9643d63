"""What the vLLM plugin does without vLLM: requests become tensors, readers folders that vLLM can open."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ragx_vllm import ARCHITECTURES
from ragx_vllm.export import export
from ragx_vllm.passages import Factors, ReaderSettings, context_rows, fingerprint, order_of, read_passages
from ragx_vllm.prompt import question_prompt

from ragx import cepe
from ragx.cepe import weights
from ragx.cepe.fresh import is_added
from ragx.errors import ModelError
from ragx.types import Passage
from ragx.util.tokenization import load_tokenizer

READER = ReaderSettings(encoder_width=4, encoder_window=5, max_tokens=12, prompted_gain=0.5, sharpen_beyond=6)
FROM_THE_QUESTION = replace(READER, cross_attend="question")


def lengths_as_ids(texts: Sequence[str]) -> list[list[int]]:
    return [list(range(len(text))) for text in texts]


def read(data: Any, reader: ReaderSettings = READER) -> dict[str, torch.Tensor]:
    return read_passages(data, reader, lengths_as_ids)


def factors(data: Any, reader: ReaderSettings = READER) -> Factors:
    return Factors(*read(data, reader)["factors"].tolist())


def test_texts_are_cut_at_the_encoders_window() -> None:
    passages = read(["ab", "abcdefgh", ""])
    assert passages["token_ids"].tolist() == [0, 1, 0, 1, 2, 3, 4]
    assert passages["lengths"].tolist() == [2, 5, 0]
    assert passages["encodings"].shape == (0, 4)
    assert context_rows(passages) == 7


@pytest.mark.parametrize(
    "data",
    [
        torch.ones(3, 4),
        [torch.ones(1, 4), torch.ones(2, 4)],
        torch.ones(3, 4).numpy(),
        {"encodings": torch.ones(3, 4)},
    ],
)
def test_encodings_of_passages_are_joined(data: Any) -> None:
    passages = read(data)
    torch.testing.assert_close(passages["encodings"], torch.ones(3, 4))
    assert (len(passages["token_ids"]), context_rows(passages)) == (0, 3)


@pytest.mark.parametrize("data", [[], {}, {"texts": []}, {"token_ids": []}, {"encodings": []}])
def test_without_passages_a_row_stands_for_them(data: Any) -> None:
    passages = read(data)
    assert (passages["token_ids"].numel(), passages["encodings"].shape[0], context_rows(passages)) == (0, 0, 1)


def test_gain_and_question_follow_the_readers_configuration() -> None:
    prompted = {"texts": ["abc"], "prompted": True, "question_start": 7}
    assert factors(["abc"]) == (1, 1, 0)
    assert factors(prompted) == (1, 0.5, 0)
    assert factors(prompted, FROM_THE_QUESTION) == (1, 0.5, 7)
    assert factors({**prompted, "prompted": False}, FROM_THE_QUESTION) == (1, 1, 7)
    assert factors([], FROM_THE_QUESTION) == (1, 1, 0)


def test_a_reader_that_attends_from_the_question_on_must_know_it() -> None:
    with pytest.raises(ValueError, match="question_start"):
        read(["abc"], FROM_THE_QUESTION)


def test_long_contexts_sharpen_the_scores_as_the_torch_reader_does() -> None:
    from ragx.cepe.context import Context

    for tokens in (4, 6, 12):
        context = Context(torch.zeros(1, tokens, 4), sharpen_beyond=6)
        assert factors(torch.zeros(tokens, 4)).keys == pytest.approx(context.scale(head_dim=1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("one text", "list of strings"),
        ([1, 2], "list of strings"),
        ({"text": ["a"]}, "'text' is unknown"),
        ({"texts": ["a"], "encodings": torch.ones(1, 4)}, "either texts or encodings"),
        (torch.ones(3, 5), "width 4"),
        (torch.ones(3, 4, dtype=torch.long), "floating-point"),
        (torch.ones(4), "width 4"),
        (["abcde"] * 3, "15 tokens, more than the 12"),
        ({"texts": ["a"], "prompted": 1}, "prompted must be"),
        ({"texts": ["a"], "question_start": -1}, "question_start must be"),
    ],
)
def test_a_wrong_request_is_refused(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(data)


def test_a_folder_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ragx_vllm\.export"):
        ReaderSettings.of(SimpleNamespace(hidden_size=4))


def test_passages_find_their_prompts_in_any_order() -> None:
    prompts = [[5, 6, 7], [5, 6], [5, 6, 8, 9]]  # the last with a token of its answer
    items = [(4, 3, fingerprint([5, 6, 8])), (4, 3, fingerprint([5, 6, 7])), (2, 2, fingerprint([5, 6]))]
    assert order_of(prompts, [4, 2, 4], items) == [1, 2, 0]
    with pytest.raises(RuntimeError, match="without its passages"):
        order_of(prompts, [4, 2, 3], items)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_an_exported_folder_has_all_weights_and_settings(
    save_vllm_reader: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    reader = save_vllm_reader(family)
    export(str(reader), tmp_path, dtype="float32", max_passage_tokens=99)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["architectures"] == [ARCHITECTURES[family]]
    assert values["is_encoder_decoder"]
    assert values["cross_attention_layers"] == [0, 2]
    settings = ReaderSettings.of(SimpleNamespace(**values))
    assert (settings.encoder_width, settings.encoder_window, settings.max_tokens) == (128, 512, 99)
    model = cepe.load(str(reader), dtype="float32", device="cpu")
    state = model.state_dict()
    stored = weights.read(tmp_path, state.keys())
    assert stored.keys() == {*state, *weights.shapes(tmp_path)}
    for name, tensor in stored.items():
        torch.testing.assert_close(tensor, state[name])
    cross = {name.split("cross_attn.")[1] for name in stored if ".layers.2.cross_attn." in name}
    assert cross == {f"{part}.weight" for part in ("q_proj", "k_proj", "v_proj", "o_proj", "layernorm")}
    assert {name for name in stored if is_added(name)} >= {"encoder.norm.weight"}
    assert load_tokenizer(tmp_path).chat_ids("a") == load_tokenizer(Path(model.name_or_path)).chat_ids("a")


def test_a_file_in_the_way_is_one_error(save_vllm_reader: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "served").write_text("mine")
    with pytest.raises(ModelError, match="cannot write"):
        export(str(save_vllm_reader("llama")), tmp_path / "served")
    assert (tmp_path / "served").read_text() == "mine"


def test_a_plain_decoder_is_not_exported(tiny_decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no CEPE reader"):
        export(str(tiny_decoder), tmp_path)


def test_the_prompt_is_that_of_a_question(tiny_decoder: Path) -> None:
    tokenizer = load_tokenizer(tiny_decoder)
    texts = ["dark soil absorbs it", "fresh snow reflects it"]
    passages = [Passage(f"d#{n}", "d", "Soil", text, n, 0, len(text), "d") for n, text in enumerate(texts)]
    request = question_prompt(tokenizer, "What does snow do?", passages, prompt_passages=1, max_tokens=300)
    sent = request["multi_modal_data"]["passages"]
    assert sent["texts"] == [f"Soil\n{text}" for text in texts]
    assert sent["prompted"]
    question = tokenizer.decode(request["prompt_token_ids"][sent["question_start"] :])
    assert "What does snow do?" in question
    assert "soil" not in question


def test_importing_the_plugin_imports_neither_vllm_nor_torch() -> None:
    probe = "import sys, ragx_vllm; print(*({'vllm', 'torch'} & set(sys.modules)))"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
