"""`--plan`: what a run takes, counted by hand, and settings that cannot work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ragx_train.plan import decoder_values
from transformers import LlamaConfig

from ragx.errors import ModelError
from tests.helpers.command import RunCommand
from tests.helpers.tiny_runs import CONFIGS

PAPER = sorted(path.parent.name for path in CONFIGS.glob("*/paper.yaml") if path.parent.name != "qa")
LLAMA_2 = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_hidden_layers": 32}
DECODER = 32000 * 4096 * 2 + 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096
ENCODER = 32001 * 1024 + 24 * (4 * 1024**2 + 3 * 1024 * 4096 + 2 * 1024) + 1024
CROSS = 32 * (2 * 4096**2 + 2 * 1024 * 4096 + 4096)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """Llama-2-7B without weights."""
    folder = tmp_path / "llama"
    folder.mkdir()
    config = LlamaConfig(vocab_size=32000, max_position_embeddings=4096, **LLAMA_2)
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "model_type": "llama"}))
    return folder


@pytest.mark.parametrize("recipe", PAPER)
def test_the_paper_s_runs(recipe: str, llama: Path, run_command: RunCommand, tmp_path: Path) -> None:
    run = run_command(
        *("train", recipe, "--config", CONFIGS / recipe / "paper.yaml", "--out", tmp_path / "out", "--plan"),
        *("--gpus", 8, "--rate", 1000, f"--model.decoder={llama}"),
    )
    assert run.code == 0, run.err
    steps, tokens, parameters, memory, hours = run.out.splitlines()
    decoder, encoder, at_rate = {
        "mlm": (0, 104.86, "29,127.1"),  # 100K x 2,048 x 512
        "warmup": (0.13, 0.13, "36.4"),  # 4K x 128 x 256
        "cepe": (10.49, 10.49, "2,912.7"),  # 20K x 128 x 4,096: 20B in all
        "ceped": (5.24, 5.24, "1,456.4"),
        "retdoc": (10.49, 10.49, "2,912.7"),
    }[recipe]
    assert tokens == f"{decoder:.2f}B tokens in the decoder, {encoder:.2f}B in the encoder"
    trained = ENCODER + (0 if recipe == "mlm" else CROSS)
    frozen = DECODER + ENCODER + CROSS - trained
    assert parameters == f"{trained / 1e6:,.0f}M trained parameters, {frozen / 1e6:,.0f}M frozen"
    assert memory.startswith(f"{(18 * trained + 2 * frozen) / 1e9:,.1f} GB a GPU")
    given = yaml.safe_load((CONFIGS / recipe / "paper.yaml").read_text())["loop"]
    assert steps.startswith(f"{given['steps']:,} steps of {given['batch_size']:,} examples")
    assert hours.startswith(f"{at_rate} hours, ")
    assert not (tmp_path / "out").exists(), "nothing is written"


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("cepe", ["decoder_tokens=4097"], "the decoder reads 4097 tokens: the decoder's window has 4096"),
        ("ceped", ["encoder_tokens=2049"], "the teacher reads 4097 tokens"),
        ("cepe", ["chunk=5000", "encoder_tokens=5000"], "a passage has 5000 tokens"),
        ("cepe", ["loop.micro_batch=3"], "8 GPUs cannot share 128 examples"),
        ("cepe", ["loop.micro_batch=16", "loop.activation_checkpointing=false"], "cannot hold about"),
        ("cepe", ["model.cross_attention_layers=[3,32]"], "layers 0 to 31, got 32"),
        ("cepe", ["model.encoder.width=8192"], "exceeds the decoder's 4096"),
    ],
)
def test_settings_that_cannot_work(
    recipe: str, changes: list[str], message: str, llama: Path, run_command: RunCommand, tmp_path: Path
) -> None:
    run = run_command(
        *("train", recipe, "--config", CONFIGS / recipe / "paper.yaml", "--out", tmp_path / "out", "--plan"),
        *("--gpus", 8, f"--model.decoder={llama}", *(f"--{change}" for change in changes)),
    )
    assert run.code == 2, run.out
    assert message in run.err
    assert len(run.err.strip().splitlines()) == 1


def test_a_decoder_that_is_nowhere() -> None:
    with pytest.raises(ModelError, match=r"config\.json of /nowhere/x cannot be read"):
        decoder_values("/nowhere/x")


def test_other_recipes_have_no_plan(run_command: RunCommand, tmp_path: Path) -> None:
    run = run_command("train", "qa", "--config", CONFIGS / "qa" / "tiny.yaml", "--out", tmp_path, "--plan")
    assert run.code == 2
    assert "--plan is for" in run.err
