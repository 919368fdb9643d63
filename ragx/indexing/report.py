"""The report of a build or update: what was read, skipped and why, as lines for the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from ragx.config import IndexSettings
from ragx.corpus import PassageCounts, Skipped
from ragx.corpus.folder import walk
from ragx.errors import CorpusError, EmptyCorpusError

LISTED_REASONS = 3
"""Reasons in the message of an error."""
LISTED_ROWS = 3
"""Rows of one file that are skipped for one reason are listed one by one up to this number."""


@dataclass
class BuildReport:
    """What became of the files."""

    counts: PassageCounts = field(default_factory=PassageCounts)
    skipped: list[Skipped] = field(default_factory=list)
    strict: bool = False
    notes: list[str] = field(default_factory=list)
    """One line each: what the user should know beside what was skipped."""

    def skip(self, skipped: Skipped) -> None:
        """Note what could not be read; if `strict`, refuse it unless only its format is unsupported."""
        if self.strict and not skipped.unsupported:
            raise CorpusError(f"{skipped.source}: {skipped.reason}")
        self.skipped.append(skipped)

    def left_out(self) -> dict[str, int]:
        """Counts for the manifest."""
        return {
            "documents": self.counts.documents,
            "duplicates": self.counts.duplicates,
            "empty": self.counts.empty,
            "skipped": len(self.skipped),
        }

    def summary(self) -> str:
        """How much was skipped or read in part, as in "2 files or rows skipped, 1 read in part"; empty if nothing."""
        partial = sum(skipped.partial for skipped in self.skipped)
        skipped = len(self.skipped) - partial
        parts = {"file or row skipped" if skipped == 1 else "files or rows skipped": skipped, "read in part": partial}
        return ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)

    def lines(self) -> list[str]:
        """What was skipped and why, and notes: a line each. Rows and unsupported files are grouped."""
        unsupported = [Path(skipped.source) for skipped in self.skipped if skipped.unsupported]
        lines = list(_skipped_lines(skipped for skipped in self.skipped if not skipped.unsupported))
        if unsupported:
            lines.append(f"{unsupported_files(unsupported)} (`ragx index formats` lists what ragx reads)")
        return lines + self.notes


@contextmanager
def explained(report: BuildReport, settings: IndexSettings) -> Iterator[None]:
    """Add the reasons to an `EmptyCorpusError`."""
    try:
        yield
    except EmptyCorpusError as error:
        reasons = report.lines()
        if not reasons:
            reasons = ["no text has a letter or digit" if report.counts.documents else _no_files(settings)]
        more = f"; and {len(reasons) - LISTED_REASONS} more" if len(reasons) > LISTED_REASONS else ""
        raise EmptyCorpusError(f"{error}: {'; '.join(reasons[:LISTED_REASONS])}{more}") from None


def _no_files(settings: IndexSettings) -> str:
    folders = [Path(source) for source in settings.sources if isinstance(source, str)]
    files = [found for folder in folders if folder.is_dir() for found in walk(folder, (), ())]
    counts = Counter(found[0].suffix or found[0].name for found in files if not isinstance(found, Skipped))
    if not counts:
        return f"no file was found in {', '.join(map(str, settings.sources))}"
    globs = [*(f"--include {glob}" for glob in settings.include), *(f"--exclude {glob}" for glob in settings.exclude)]
    return f"no file is left by {' '.join(globs)}; there are {_listed(counts)}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(
        f"{count} {suffix}" for suffix, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def unsupported_files(paths: Iterable[Path]) -> str:
    """The files, counted by suffix, as in "3 files of unsupported formats left out: 2 .png, 1 without a suffix"."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    files = (
        "1 file of an unsupported format" if counts.total() == 1 else f"{counts.total()} files of unsupported formats"
    )
    return f"{files} left out: {_listed(counts)}"


def _skipped_lines(skipped: Iterable[Skipped]) -> Iterable[str]:
    for (source, reason), group in groupby(skipped, key=lambda each: (each.file, each.reason)):
        rows = list(group)
        what = "read in part:" if rows[0].partial else "skipped"
        if len(rows) <= LISTED_ROWS:
            yield from (f"{what} {row.source}: {row.reason}" for row in rows)
        else:
            yield f"{what} {len(rows):,} rows of {source}, the first at {rows[0].source}: {reason}"
