"""Update an index after files were added, changed or deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import DatasetSource, IndexSettings
from ragx.corpus import text_key
from ragx.corpus.reading import FileReader
from ragx.corpus.sources import find_files
from ragx.errors import ConfigError, CorpusError
from ragx.index import Index, read_manifest
from ragx.index.by_source import BySource
from ragx.index.lock import index_lock
from ragx.index.names import index_folder
from ragx.index.update import apply_changes
from ragx.indexing.build import Engine, absolute, embedders, lies_in, parse_options, readable
from ragx.indexing.file_records import Records, read_records, reading_version
from ragx.indexing.reading import CorpusReading
from ragx.indexing.report import BuildReport
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import torch

    from ragx.retrieval import TextEmbedder


@dataclass
class UpdateReport(BuildReport):
    """What became of the files and the index; `counts` include reused files, except for their empty passages."""

    added: int = 0
    """Passages that are new or replace another one."""
    deleted: int = 0
    """Passages that were deleted or replaced."""
    unchanged: int = 0


def update(
    folder: str | Path,
    paths: Sequence[str | Path] = (),
    *,
    keep: bool = False,
    strict: bool = False,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    engine: Engine = "local",
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> UpdateReport:
    """Bring the passages of `paths` in an index up to date, with the settings that the index was built with.

    The result is the same as if every file were parsed. A file whose SHA-256 has not changed is reused instead, if the
    index holds all its passages (`ragx.indexing.file_records`). Only new passages are embedded; passages of `paths`
    that no longer exist are deleted. Passages from other places stay, and so do those of files that are unreadable at
    the moment. Documents of the original sources keep the ids that a build gives them; the ids of another folder's
    documents begin with its name.

    Everything is read and written while this process holds the lock for writers.

    Args:
        folder: the name or folder of an index.
        paths: files and folders; none: what the index was built from. If one of its sources is named, or the new place
            of a source folder that was moved, all are read.
        keep: delete only passages of documents that are replaced.
        strict: change nothing if a file or row cannot be read.
        device: a torch device for the embedder; None: a GPU where there is one.
        dtype: number format of the embedder; None: the fastest on the device.
        engine: `ray`: the workers of the connected Ray cluster embed; `device` is theirs.
        on_progress: called with the numbers of embedded passages and of all that are written.

    Returns:
        Counts, and what was skipped with its reason.

    Raises:
        ConfigError: there is nothing to read, or a path is part of what the index was built from.
        CorpusError: a path does not exist, nothing that the index was built from is left, or with `strict` something
            cannot be read.
        ModelError: the embedder is missing or unusable.
        IndexFolderError: there is no index in `folder`, it is damaged, cannot be written, or another process is writing
            to it.
    """
    folder = index_folder(folder)
    report = UpdateReport(strict=strict)
    find_files(map(Path, paths))  # raises at once if one does not exist
    embedder, passage_embedder = embedders(engine, read_manifest(folder).settings.embedder, device, dtype)
    with index_lock(folder), FileReader(options=parse_options(read_manifest(folder).settings)) as files:
        index = Index.open(folder)
        index.check_embedder(embedder)
        version = reading_version(index.manifest.settings.chunking, embedder.fingerprint)
        update = _Update(index, paths, report, keep, embedder, version)
        done = apply_changes(
            folder,
            index,
            passage_embedder,
            add=update.reading.read(update.entries, files),
            delete=update.vanished(),
            sources=lambda: update.records().lines(),
            settings=update.settings,
            on_progress=on_progress,
        )
    report.added, report.deleted = done.added, done.deleted
    report.unchanged = done.manifest.counts.passages - done.added
    return report


class _Update:
    """What one update reads, keeps and deletes."""

    def __init__(
        self,
        index: Index,
        paths: Sequence[str | Path],
        report: BuildReport,
        keep: bool,
        embedder: TextEmbedder,
        version: str,
    ) -> None:
        self.index = index
        self._report, self._keep = report, keep
        self._known = read_records(index)
        if self._known.reading != version:
            self._known.reading, self._known.files = version, {}
        named = [Path(absolute(path)) for path in paths]
        self.settings, moved = _follow(index, named)
        if moved:
            report.notes.append(f"{moved} was moved to {named[0]}")
            self._known = _at_new_place(self._known, str(moved), str(named[0]))
        built, others = _sources(index.folder, self.settings, named)
        self._is_whole = bool(built)
        sources = [*built, *others]
        self._places = [without_surrogates(_name(source)) for source in [*sources, *([moved] if moved else [])]]
        gone = self._gone(sources)
        settings = self.settings
        find = partial(
            find_files, include=settings.include, exclude=settings.exclude, archives=settings.archives, gone=gone
        )
        self.entries = chain(find(built), find(others, prefixed=True))  # raises at once if a path does not exist
        owners = {
            document
            for _, document, source in index.entries()
            if not self._is_read(source) and (Path(source).exists() or not Path(source).is_absolute())
        }
        self.reading = CorpusReading(
            report,
            self.settings.chunking,
            embedder.tokenizer,
            embedder.window,
            known=self._known.files,
            deletions=self._known.deletions,
            indexed=BySource(index).passages if self._known.files else lambda source: iter(()),
            owners=owners,
        )
        rows = zip(index.rows(), index.entries(), strict=True)
        for passage in index.passages([int(row) for row, (_, _, source) in rows if not self._is_read(source)]):
            self.reading.texts.add(text_key(passage.text))
        self._incomplete: set[str] = set()
        """Sources whose passages in the index are no longer those of the file."""

    def _gone(self, sources: Sequence[Path | DatasetSource]) -> set[Path]:
        """Sources that were indexed and no longer exist. If the folder is missing too, a disk may not be mounted."""
        indexed = {source for _, _, source in self.index.entries()}
        return {
            path
            for path in sources
            if isinstance(path, Path) and str(path) in indexed and not path.exists() and path.parent.is_dir()
        }

    def _is_read(self, source: str) -> bool:
        return lies_in(source, self._places)

    def vanished(self) -> Iterator[str]:
        """The ids of passages to delete. All files must have been read."""
        reading = self.reading
        unreadable = [skipped.source for skipped in self._report.skipped if skipped.unreadable]
        had_passages = False
        for id, document, source in self.index.entries():
            is_read = self._is_read(source)
            had_passages = had_passages or is_read
            is_replaced = document in reading.documents
            if is_replaced and not is_read:
                self._incomplete.add(source)
            if id in reading.passages:
                continue
            if is_replaced or (is_read and not self._keep and not lies_in(source, unreadable)):
                yield id
            elif is_read:
                self._incomplete.add(source)
        is_empty = not self._report.counts.passages
        if is_empty and had_passages and self._is_whole and not self._keep and not unreadable:
            raise CorpusError(
                f"no passage is left of what {self.index.folder} was built from, so nothing was changed;"
                f" `ragx index rm --index {self.index.folder}` deletes an index"
            )

    def records(self) -> Records:
        """What the next update may reuse, once the passages to delete are known."""
        known, read = self._known, self.reading
        files = {source: file for source, file in known.files.items() if not self._is_read(source)} | read.records
        deletions = {source: each for source, each in known.deletions.items() if not self._is_read(source)}
        skipped = [each for each in known.skipped if not self._is_read(each.file)]
        return Records(
            known.reading,
            {source: file for source, file in files.items() if source not in self._incomplete},
            deletions | read.deletions,
            skipped + self._report.skipped,
        )


def _follow(index: Index, named: Sequence[Path]) -> tuple[IndexSettings, Path | None]:
    """Settings with the new place of a source folder that was moved to the one that is named, and its old place.

    It was moved if it is gone and half of its indexed files are found in the folder that is named.
    """
    settings = index.manifest.settings
    gone = [source for source in settings.sources if isinstance(source, str) and not Path(source).exists()]
    if len(named) != 1 or len(gone) != 1 or str(named[0]) in settings.sources or not named[0].is_dir():
        return settings, None
    old, new = Path(gone[0]), named[0]
    files = {Path(source).relative_to(old) for _, _, source in index.entries() if lies_in(source, [str(old)])}
    if not files or 2 * sum((new / file).exists() for file in files) < len(files):
        return settings, None
    sources = [str(new) if source == str(old) else source for source in settings.sources]
    return settings.model_copy(update={"sources": sources}), old


def _at_new_place(records: Records, old: str, new: str) -> Records:
    """The records of a source folder that was moved; its files are parsed again."""
    moved = [
        each.model_copy(update={"source": new + each.source.removeprefix(old)}) if lies_in(each.source, [old]) else each
        for each in records.deletions.values()
    ]
    return replace(records, deletions={each.source: each for each in moved})


def _sources(
    folder: Path, settings: IndexSettings, paths: Sequence[Path]
) -> tuple[list[Path | DatasetSource], list[Path]]:
    """What the index was built from, unless only other paths are named, and those other paths.

    Raises:
        ConfigError: there is nothing to read, or a path lies in what the index was built from.
    """
    built = [readable(source) for source in settings.sources]
    is_whole = not paths or any(path in built for path in paths)
    if is_whole and not built:
        raise ConfigError(f"{folder} was not built from files: name the files to add to it")
    for path in paths:
        for source in built:
            if isinstance(source, Path) and source in path.parents:
                raise ConfigError(
                    f"{path} lies in {source}, which {folder} was built from:"
                    f" `ragx index update --index {folder}` reads all of it again"
                )
    return built if is_whole else [], [path for path in paths if path not in built]


def _name(source: Path | DatasetSource) -> str:
    return str(source) if isinstance(source, Path) else source.dataset
