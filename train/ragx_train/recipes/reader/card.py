"""The model card of a trained reader: how it was trained, on what, and how well it does on held-out examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ragx.util.files import durable_file, sha256
from ragx_train.data.sources import TOKENS, expand
from ragx_train.engine import log as record
from ragx_train.engine.model import READER
from ragx_train.errors import OutputError
from ragx_train.recipes.reader.options import ReaderData, ReaderSettings

STREAMS = ("reconstruction", "continuation", "answers")


def write_card(out: Path, settings: ReaderSettings, data: ReaderData, stages: Sequence[Path]) -> None:
    """Write `README.md` beside the weights in `out/reader`, and copies of the stages' curves."""
    for stage in stages:
        if (stage / "loss.png").exists():
            (out / READER / f"{stage.name}.png").write_bytes((stage / "loss.png").read_bytes())
    with durable_file(out / READER / "README.md", OutputError) as file:
        file.write("\n".join(_card(out, settings, data, stages)).encode())


def _card(out: Path, settings: ReaderSettings, data: ReaderData, stages: Sequence[Path]) -> Iterator[str]:
    model = settings.model
    yield f"# {out.absolute().name}\n"
    yield f"A CEPE reader around {model.decoder}, trained by `ragx train reader`. The decoder is unchanged.\n"
    start = f"It started from {model.init_from}." if model.init_from else "It started from the decoder."
    yield (
        f"{start} Encoder from layers {_numbers(model.encoder_layers)}, cross-attention in layers"
        f" {_numbers(model.cross_attention_layers)}; weights in int8 with one scale per row.\n"
    )
    yield "```\nragx ask QUESTION --model FOLDER\n```\n"
    yield "## Stages\n"
    yield "Losses in nats a token on held-out texts and articles, first to last. Each stage keeps its best weights.\n"
    yield "| stage | steps | decoder tokens | encoder tokens | minutes | " + " | ".join(STREAMS) + " |"
    yield "|---|---:|---:|---:|---:|" + "---|" * len(STREAMS)
    for stage in stages:
        yield _row(stage)
    yield ""
    for stage in stages:
        if (out / READER / f"{stage.name}.png").exists():
            yield f"![Losses of {stage.name}]({stage.name}.png)\n"
    yield "## Data\n"
    yield "| file | SHA-256 |\n|---|---|"
    for path in _files(settings.data):
        yield f"| {path.name} | {sha256(path / TOKENS if path.is_dir() else path)} |"
    if data.questions is not None:
        for file in data.questions.files:
            if (path := Path(file.path)).is_absolute():
                rows = sum(1 for _ in path.open("rb"))
                yield f"| {path.name}, {rows:,} questions and answers by the decoder | {sha256(path)} |"
    yield "\n## Settings\n"
    yield f"```yaml\n{yaml.safe_dump(settings.model_dump(mode='json'), sort_keys=False)}```\n"


def _row(stage: Path) -> str:
    log = record.read(stage)
    steps = [each for each in log if "tokens" in each]
    if not steps:
        return f"| {stage.name} |" + " |" * (4 + len(STREAMS))
    last = steps[-1]
    losses = []
    for stream in STREAMS:
        values = [each[name] for each in log if (name := f"validation_loss_{stream}") in each]
        losses.append(f"{values[0]:.3f} to {values[-1]:.3f}" if values else "–")
    counts = f"{last['step']:,} | {last['tokens']:,} | {last['encoder_tokens']:,} | {last['seconds'] / 60:.0f}"
    return f"| {stage.name} | {counts} | {' | '.join(losses)} |"


def _files(data: ReaderData) -> list[Path]:
    texts = data.known_texts()
    places: list[Any] = [each.place for source in texts.sources for each in expand(texts.folder, source)]
    questions = [] if data.questions is None else data.questions.paths()
    return [place for place in (*places, *questions) if isinstance(place, Path)]


def _numbers(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
