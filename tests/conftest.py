"""Fixtures that several test folders share."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest
import torch

os.environ["RAGX_CONFIG"] = os.devnull  # no test reads the developer's own defaults

if not torch.cuda.is_available():  # read when triton is first imported, which transformers may do
    os.environ["TRITON_INTERPRET"] = "1"

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from ragx.cli import main as cli
from tests.helpers.command import Run, RunCommand


def pytest_sessionstart(session: pytest.Session) -> None:
    """Download and compile the default models once for all processes: commands print a line the first time."""
    if hasattr(session.config, "workerinput"):  # a process of pytest-xdist
        return
    from ragx.config import IndexSettings, ModelOptions
    from ragx.engine.cpu.cache import compiled
    from ragx.errors import RagxError
    from ragx.reader.reranking import open_reranker
    from ragx.retrieval import open_embedder

    embedder = IndexSettings().embedder
    with contextlib.suppress(RagxError):  # the tests that need one say why there is none
        compiled(ModelOptions().model)
        open_embedder(embedder)
        open_reranker("auto", embedder=embedder)


SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ADDED = ["<tool_call>", "</tool_call>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a byte-level tokenizer; its control tokens are special or merely added."""
    folder = tmp_path_factory.mktemp("tiny-decoder")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["fresh snow reflects most of the sunlight, dark soil absorbs it"] * 3, trainer)
    backend.add_tokens([AddedToken(token) for token in ADDED])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[0]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference outputs and data sets that are kept beside the repository, not in it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}")
    return folder


@pytest.fixture
def unread_when_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every index counts as too large for its files to be read whenever it is opened."""
    monkeypatch.setattr("ragx.index.index.MAX_CHECKED_BYTES", 0)


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Run `ragx` in this process."""
    for name in ("RAGX_OFFLINE", "HF_HUB_OFFLINE", "RAGX_INDEX"):  # restored after a test whose command set one
        monkeypatch.setenv(name, os.environ.get(name, ""))

    def run(*arguments: str | Path) -> Run:
        monkeypatch.setattr(sys, "argv", ["ragx", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return run
