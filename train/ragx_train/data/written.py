"""Rows that a decoder writes, such as questions and answers, batch by batch; a journal makes it resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ragx.config import ModelOptions, SamplingParams
from ragx.engine.open import open_model
from ragx.evaluation.writing import whole_answer
from ragx.reader.base import PreparedPrompt
from ragx.reader.full import FullReader
from ragx.reader.prompt import Prompt
from ragx.util.files import durable_file
from ragx_train.errors import Interrupted, OutputError
from ragx_train.signals import stop_on_signals

BATCH = 64
"""Items written at once."""
Item = TypeVar("Item")
Row = dict[str, Any]


def open_writer(decoder: Path) -> FullReader:
    """The decoder in a folder, on the fastest backend; it answers `BATCH` prompts at once."""
    writer = FullReader(*open_model(ModelOptions(model=str(decoder))))
    writer.reserve(BATCH)
    return writer


def answers(writer: FullReader, prompts: Sequence[list[int]], max_tokens: int) -> list[str | None]:
    """The greedy answer to each prompt; None if it does not end within `max_tokens` or the decoder's window."""
    sampling = SamplingParams(max_new_tokens=max_tokens)

    def answer(prompt: list[int]) -> str | None:
        prepared = PreparedPrompt(Prompt(prompt, passages=0, question_start=0), None)
        return whole_answer(writer, prepared, sampling) if writer.room(prepared) > 0 else None

    with ThreadPoolExecutor(len(prompts)) as waiting:
        return list(waiting.map(answer, prompts))


def write_journalled(
    out: Path,
    items: Callable[[], Sequence[Item]],
    write: Callable[[Sequence[Item]], list[Row]],
    *,
    seconds: float | None,
    batch: int = BATCH,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write the rows that `write` makes of items, batch by batch, to `out`, if it does not exist.

    A journal beside `out` keeps every finished batch; a later call continues after it.

    Args:
        out: JSON lines; written when all items or the time are used up.
        items: returns what to write about, always the same.
        write: the rows that a batch of items gives.
        seconds: no batch begins after these; None: all items.
        batch: items at once.
        clock: in seconds.

    Raises:
        Interrupted: SIGINT or SIGTERM was received; the journal has all finished batches.
        OutputError: `out` cannot be written.
    """
    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    began, todo, records = clock(), items(), _read(_journal(out))
    done, spent = (records[-1]["done"], records[-1]["seconds"]) if records else (0, 0.0)
    _write_lines(_journal(out), records)  # without a line that was cut off
    bar = tqdm(desc=f"writing {out.name}", total=len(todo), initial=done, unit=" questions")
    with stop_on_signals() as stop, _journal(out).open("a", encoding="utf-8") as lines, bar:
        while done < len(todo) and (seconds is None or clock() - began < seconds):
            rows = write(todo[done : done + batch])
            bar.update(min(batch, len(todo) - done))
            done = min(done + batch, len(todo))
            records.append({"done": done, "seconds": spent + clock() - began, "rows": rows})
            lines.write(json.dumps(records[-1]) + "\n")
            lines.flush()
            if stop.requested:
                raise Interrupted(f"stopped by a signal after {done:,} of {len(todo):,} questions: use --resume")
    _write_lines(out, [row for record in records for row in record["rows"]])


def journal_seconds(out: Path) -> float:
    """The time that writing `out` has taken so far, or in all."""
    records = _read(_journal(out))
    return float(records[-1]["seconds"]) if records else 0.0


def _journal(out: Path) -> Path:
    return out.with_suffix(".journal")


def _read(journal: Path) -> list[Row]:
    """The records of a journal, without one that was cut off."""
    records: list[Row] = []
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    with durable_file(path, OutputError) as file:
        for row in rows:
            file.write(json.dumps(row).encode() + b"\n")
