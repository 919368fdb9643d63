"""Find the files of a corpus: what to read, in which order and under which ids."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from ragx.config import DatasetSource
from ragx.corpus.dataset import open_dataset
from ragx.corpus.document import Document, Skipped, one_line
from ragx.corpus.folder import walk
from ragx.corpus.formats import Format, format_of
from ragx.errors import CorpusError
from ragx.util.compressed import UNREADABLE
from ragx.util.text import without_surrogates


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a known format."""

    path: Path
    id: str
    """The id of its document, unless it holds rows or pages with ids of their own."""
    format: Format

    @property
    def source(self) -> str:
        """Its path as documents and passages name it."""
        return without_surrogates(str(self.path))


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """The rows of an opened dataset, to be read once."""

    documents: Iterator[Document | Skipped]


Entry = SourceFile | DatasetRows | Skipped


def find_files(
    sources: Iterable[Path | DatasetSource],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    archives: bool = False,
    gone: Collection[Path] = (),
    prefixed: bool = False,
) -> Iterator[Entry]:
    """The files and datasets to read, in the order of the sources, each folder sorted by name; files are not read yet.

    The id of a file is its path relative to its folder, preceded by the folder's name if there are several folders or
    `prefixed`; a file that is itself a source has its name. Clashing names are preceded by their parent folders.

    Args:
        sources: files, folders and datasets.
        include: globs on paths relative to a folder, see `folder.walk`.
        exclude: likewise.
        archives: read the files in archives; otherwise they are reported.
        gone: sources that no longer exist. They are not read, but the other ids stay as if they were.
        prefixed: the ids of a single folder's files begin with its name too.

    Raises:
        CorpusError: a path or dataset does not exist.
    """
    opened: list[Path | DatasetRows] = []
    for source in sources:
        if isinstance(source, DatasetSource):
            opened.append(DatasetRows(open_dataset(source)))
        elif (path := Path(os.path.abspath(source))) not in opened:  # noqa: PTH100  (resolve() would follow links)
            try:
                if path not in gone:
                    path.stat()
            except OSError as error:
                raise CorpusError(f"cannot read {source}: {error.strerror}") from None
            opened.append(path)
    entries = _entries(opened, include, exclude, gone, prefixed)
    return entries if archives else map(_without_archive, entries)


def _without_archive(entry: Entry) -> Entry:
    if isinstance(entry, SourceFile) and entry.format == "archive":
        return Skipped(str(entry.path), "is an archive: `ragx index build --archives` reads the files in it")
    return entry


def _entries(
    opened: Sequence[Path | DatasetRows],
    include: Sequence[str],
    exclude: Sequence[str],
    gone: Collection[Path],
    prefixed: bool,
) -> Iterator[Entry]:
    paths = [source for source in opened if isinstance(source, Path)]
    folders = _names([path for path in paths if path.is_dir()])
    files = _names([path for path in paths if path not in folders])
    for source in opened:
        if not isinstance(source, Path):
            yield source
        elif source in gone:
            continue
        elif source in folders:
            prefix = f"{folders[source]}/" if prefixed or len(folders) > 1 else ""
            for found in walk(source, include, exclude):
                if isinstance(found, Skipped):
                    yield found
                else:
                    path, relative = found
                    yield _entry(path, prefix + relative, look_inside=False)
        elif source.is_file():
            yield _entry(source, files[source], look_inside=True)
        else:
            yield Skipped(str(source), "is not a regular file")


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """For each path its name, preceded by as many parent folders as it takes to tell all apart."""
    for depth in count(1):
        names = {path: "/".join(path.parts[-depth:]).lstrip("/") for path in paths}
        if len(set(names.values())) == len(paths):
            break
    return names


def _entry(path: Path, id: str, *, look_inside: bool) -> SourceFile | Skipped:
    try:
        format = format_of(path, look_inside=look_inside)
    except UNREADABLE as error:
        return unreadable(path, error)
    if format is not None:
        return SourceFile(path, without_surrogates(id), format)
    reason = "is of an unsupported format: `ragx index formats` lists those that ragx reads"
    return Skipped(str(path), reason, unsupported=not look_inside)


def unreadable(path: Path, error: Exception) -> Skipped:
    """Report a file that could not be opened or read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Skipped(str(path), f"cannot be read: {one_line(reason)}", unreadable=True)
