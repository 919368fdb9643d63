"""Progress on stderr: a bar on a terminal, or a line every few seconds in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from ragx.util.terminal import is_quiet

SECONDS_PER_LINE = 5.0


class _Lines:
    """A file for tqdm that prints each state of the bar as a line on stderr."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Do nothing: lines are not buffered."""


def progress(iterable: Iterable[Any] | None = None, *, quiet: bool = False, **options: Any) -> Any:
    """A tqdm bar, printed as lines if stderr is not a terminal, the first one after `SECONDS_PER_LINE`.

    Args:
        iterable: as for tqdm.
        quiet: print nothing, as when `set_quiet` was called.
        options: options of tqdm such as `total`, `desc` and `unit`.
    """
    quiet = quiet or is_quiet()
    if sys.stderr.isatty():
        return tqdm(iterable, disable=quiet, dynamic_ncols=True, **options)
    if options.get("total"):
        options["bar_format"] = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} passed, {remaining} left"
    options |= {"delay": SECONDS_PER_LINE, "mininterval": SECONDS_PER_LINE, "maxinterval": 2 * SECONDS_PER_LINE}
    return tqdm(iterable, disable=quiet, file=_Lines(), **options)
