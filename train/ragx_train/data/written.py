"""Rows that a decoder writes, such as questions and answers, batch by batch; a journal makes it resumable."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ragx.config import ModelOptions, SamplingParams
from ragx.engine.backend import decoder_of
from ragx.engine.batching import BatchDecoder
from ragx.engine.open import open_model
from ragx.util.files import durable_file
from ragx_train.data.example import end_of_text
from ragx_train.errors import Interrupted, OutputError
from ragx_train.signals import stop_on_signals

BATCH = 64
"""Items written at once."""
Item = TypeVar("Item")
Row = dict[str, Any]


class Writer:
    """A decoder that answers prompts greedily, on the fastest backend."""

    def __init__(self, decoder: Path) -> None:
        """`decoder` is the folder of a plain decoder."""
        model, self.tokenizer = open_model(ModelOptions(model=str(decoder)))
        self._window, self._end = model.window, end_of_text(self.tokenizer)
        self._batch = BatchDecoder(decoder_of(model), {self._end}, BATCH)

    def answers(self, prompts: Sequence[list[int]], max_tokens: int) -> list[str | None]:
        """The answer to each prompt; None if it does not end within `max_tokens` or the decoder's window."""
        with ThreadPoolExecutor(len(prompts)) as waiting:
            return list(waiting.map(lambda prompt: self._answer(prompt, max_tokens), prompts))

    def _answer(self, prompt: list[int], max_tokens: int) -> str | None:
        room = min(max_tokens, self._window - len(prompt))
        if room < 1:
            return None
        sampling = SamplingParams(max_new_tokens=room)
        *ids, last = self._batch.generate(prompt, None, sampling, threading.Event())
        return self.tokenizer.decode(ids).strip() if last == self._end else None


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
