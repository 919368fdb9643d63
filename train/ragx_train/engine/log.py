"""The record of a run: `log.jsonl`, TensorBoard events if that is installed, and `loss.png`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ragx.util.files import durable_file
from ragx.util.terminal import notice
from ragx_train.errors import OutputError


class Log:
    """Writes numbers by step, as lines of `log.jsonl` and scalars in TensorBoard."""

    def __init__(self, out: Path | None) -> None:
        self._file = None if out is None else (out / "log.jsonl").open("a", encoding="utf-8")
        self._board = None if out is None else _board(out)

    def write(self, step: int, **values: float) -> None:
        """Add one record."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close both."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


@contextmanager
def logging(out: Path | None, after: int) -> Iterator[Log]:
    """A log that continues after step `after`: later lines, from a run that was killed, are removed.

    With several devices only the main process writes a log; `out` is None in the others.
    """
    if out is not None and (out / "log.jsonl").exists():
        lines = "".join(json.dumps(record) + "\n" for record in read(out) if record["step"] <= after)
        with durable_file(out / "log.jsonl", OutputError) as file:
            file.write(lines.encode())
    log = Log(out)
    try:
        yield log
    finally:
        log.close()


def read(out: Path) -> list[dict[str, Any]]:
    """The records of a run's log, without a line that was cut off when the run was killed."""
    records = []
    for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def plot(out: Path) -> None:
    """Draw `loss.png`, training and validation loss by step, if matplotlib is installed."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        notice("loss.png not drawn: pip install 'ragx[train]'")
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, label, style in (("loss", "training", "-"), ("validation_loss", "validation", "o-")):
        points = [(record["step"], record[name]) for record in read(out) if name in record]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, linewidth=1, markersize=4)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out / "loss.png", dpi=120)


def _board(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))
