"""Progress on stderr: a bar on a terminal; elsewhere, such as in a log, a line every few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

SECONDS_PER_LINE = 5.0


class _Lines:
    """What tqdm writes its bar to: each state of it becomes a line of stderr."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Nothing is held back."""


def progress(iterable: Iterable[Any] | None = None, *, quiet: bool = False, **options: Any) -> Any:
    """A tqdm bar, or its text as lines where stderr is not a terminal, the first after `SECONDS_PER_LINE`.

    Args:
        iterable: as tqdm takes it.
        quiet: print nothing.
        options: tqdm's, such as `total`, `desc` and `unit`.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, disable=quiet, dynamic_ncols=True, **options)
    if options.get("total"):
        options["bar_format"] = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} passed, {remaining} left"
    options |= {"delay": SECONDS_PER_LINE, "mininterval": SECONDS_PER_LINE, "maxinterval": 2 * SECONDS_PER_LINE}
    return tqdm(iterable, disable=quiet, file=_Lines(), **options)
