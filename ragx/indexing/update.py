"""Bring an index up to date with files that were added, changed or deleted since it was built."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import DatasetSource
from ragx.corpus import Document, Skipped, read_documents
from ragx.errors import ConfigError, CorpusError, IndexFolderError
from ragx.index import Index, Manifest, read_manifest, update_index
from ragx.index.manifest import SOURCES
from ragx.indexing.build import BuildReport, Engine, absolute, embedders, readable
from ragx.indexing.file_records import Known, SourceFiles, read_records, reading_version, record_lines
from ragx.types import Passage
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import torch


@dataclass
class UpdateReport(BuildReport):
    """What became of the files, and of the index; `counts` tell of files that were not parsed only the passages."""

    added: int = 0
    """Passages that are new or replace another."""
    deleted: int = 0
    """Passages that are gone or were replaced."""
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
) -> UpdateReport:
    """Read `paths` again and let the index hold what they hold now, with the settings that it was built with.

    The index then holds what it would if every file were parsed and cut into passages; a file with the SHA-256 that it
    had when this was last done is not, unless something of it was skipped (`ragx.indexing.file_records`). Passages that
    the index has, equal in every field, stay as they are, the rest is embedded, and what came from `paths` and is no
    longer there is deleted. What was indexed of other places stays, and so does what came from a file that cannot be
    read just now. Documents get the ids that a build of what the index was built from gives them; those of another
    folder begin with its name.

    Args:
        folder: an index.
        paths: files and folders; none: what the index was built from, which is also read as a whole if it is named in
            part.
        keep: delete nothing but passages of documents that are replaced.
        strict: change nothing if a file or row cannot be read.
        device: a torch device for the embedder; None: a GPU where there is one.
        dtype: number format of the embedder; None: what the device multiplies fastest.
        engine: `ray`: the workers of the Ray cluster that the program is connected to embed; `device` is theirs.

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
    folder = Path(folder)
    report = UpdateReport(strict=strict)
    manifest = read_manifest(folder)
    reading = _Reading(folder, manifest, paths, report, keep)
    embedder, passage_embedder = embedders(engine, manifest.settings.embedder, device, dtype)
    passages = reading.files.passages(
        reading.documents(), manifest.settings.chunking, embedder.tokenizer, report.counts, reading.other_texts()
    )
    done = update_index(
        folder, passage_embedder, add=reading.new(passages), delete=reading.vanished(), sources=reading.source_lines
    )
    report.added, report.deleted = done.added, done.deleted
    report.unchanged = done.manifest.counts.passages - done.added
    return report


def delete(folder: Path, names: Collection[str]) -> int:
    """Delete documents from an index, by their ids, or by the file or folder that they came from.

    Returns:
        How many passages were deleted.

    Raises:
        IndexFolderError: there is no index in `folder`; it holds nothing of one of these names, or several things that
            one of them may mean; it is damaged, cannot be written, or another process is writing to it.
    """
    index = Index.open(folder)
    wanted = {without_surrogates(name): without_surrogates(absolute(name)) for name in names if name.strip()}
    if len(wanted) < len({*names}):
        raise IndexFolderError("an empty name is that of no document: nothing was deleted")
    by_id: dict[str, set[str]] = {name: set() for name in wanted}
    """Documents, as are these:"""
    by_path: dict[str, set[str]] = {name: set() for name in wanted}
    ids = []
    sources: set[str] = set()
    for id, document, source in index.entries():
        for name, path in wanted.items():
            if document == name:
                by_id[name].add(document)
            if source == name or _lies_in(source, [path]):
                by_path[name].add(document)
        if any(document in found[name] for name in wanted for found in (by_id, by_path)):
            ids.append(id)
            sources.add(source)
    for name, path in wanted.items():
        if not by_id[name] | by_path[name]:
            raise IndexFolderError(
                f"{folder} holds no document {name!r} and nothing from such a file or folder: nothing was deleted"
                " (`ragx search --json` shows documents and sources)"
            )
        if by_id[name] and by_path[name] and by_id[name] != by_path[name]:
            raise IndexFolderError(
                f"{name!r} is a document of {folder} and {path} is another: nothing was deleted (name a file by its"
                " absolute path)"
            )

    def source_lines() -> Iterator[bytes]:
        reading, records = read_records(Index.open(folder))
        return record_lines(reading, [record for record in records if record.source not in sources])

    noted = SOURCES in index.manifest.files
    return update_index(folder, delete=ids, sources=source_lines if noted else None).deleted


@dataclass
class _Reading:
    """What one update reads, and what it has seen so far. The index is opened when the lock is held."""

    folder: Path
    manifest: Manifest
    paths: Sequence[str | Path]
    report: UpdateReport
    keep: bool
    read: set[str] = field(default_factory=set)
    """Ids of the documents."""
    seen: set[str] = field(default_factory=set)
    """Ids of the passages."""

    def __post_init__(self) -> None:
        settings = self.manifest.settings
        built = [readable(source) for source in settings.sources]
        given = [Path(absolute(path)) for path in self.paths]
        self.whole = not given or any(path in built for path in given)
        if self.whole and not built:
            raise ConfigError(f"{self.folder} was built from no files: name those to add to it")
        for path in given:
            for source in built:
                if isinstance(source, Path) and source in path.parents:
                    raise ConfigError(
                        f"{path} lies in {source}, which {self.folder} was built from:"
                        f" `ragx index update --index {self.folder}` reads all of it again"
                    )
        others = [path for path in given if path not in built]
        groups: list[Sequence[Path | DatasetSource]] = [built] if self.whole else []
        if others:
            groups.append(others)
        self.sources = [source for group in groups for source in group]
        self._names = [without_surrogates(_name(source)) for source in self.sources]
        self._version = reading_version(settings.chunking, self.manifest.embedder.fingerprint)
        self.files = SourceFiles(self.report.skip, lambda: Known.of(Index.open(self.folder), self._version))
        gone = self._gone()
        self._documents = [  # raises at once when a path does not exist
            read_documents(
                group,
                include=settings.include,
                exclude=settings.exclude,
                gone=gone,
                prefixed=group is others,
                unchanged=self.files.unchanged,
                on_skip=self.files.skip,
            )
            for group in groups
        ]

    def _gone(self) -> set[Path]:
        """The files that were indexed and are no longer there. Of a missing folder that is not believed: a disk?"""
        indexed = {source for _, _, source in Index.open(self.folder).entries()}
        return {
            path
            for path in self.sources
            if isinstance(path, Path) and str(path) in indexed and not path.exists() and path.parent.is_dir()
        }

    def documents(self) -> Iterator[Document]:
        """Those read, without the ones whose id belongs to a document from elsewhere."""
        elsewhere = {
            document: source
            for _, document, source in Index.open(self.folder).entries()
            if not _lies_in(source, self._names) and (Path(source).exists() or not Path(source).is_absolute())
        }
        for group in self._documents:
            for document in group:
                if document.id in elsewhere or document.id in self.read:
                    owner = elsewhere.get(document.id, "what the index was built from")
                    reason = f"its id {document.id!r} is that of a document of {owner}"
                    self.files.skip(Skipped(document.source, reason))
                else:
                    self.read.add(document.id)
                    yield document

    def other_texts(self) -> Iterator[str]:
        """The texts of passages that come from elsewhere."""
        index = Index.open(self.folder)
        rows = zip(index.rows().tolist(), index.entries(), strict=True)
        others = [row for row, (_, _, source) in rows if not _lies_in(source, self._names)]
        return (passage.text for passage in index.passages(others))

    def new(self, passages: Iterator[Passage]) -> Iterator[Passage]:
        """Those that are not the index's own; all are noted."""
        for passage in passages:
            self.seen.add(passage.id)
            if not self.files.is_held(passage):
                yield passage

    def source_lines(self) -> Iterator[bytes]:
        """What is known of the files now: of those read, and of those elsewhere."""
        elsewhere = (r for r in self.files.known.records.values() if not _lies_in(r.source, self._names))
        return record_lines(self._version, [*elsewhere, *self.files.records()])

    def vanished(self) -> Iterator[str]:
        """The ids of passages that are no longer there; known when all documents have been read."""
        unreadable = [skipped.source for skipped in self.report.skipped if skipped.unreadable]
        ours = False
        for id, document, source in Index.open(self.folder).entries():
            here = _lies_in(source, self._names)
            ours = ours or here
            if id in self.seen:
                continue
            if document in self.read or (here and not self.keep and not _lies_in(source, unreadable)):
                yield id
        if ours and self.whole and not self.keep and not self.seen and not unreadable:
            raise CorpusError(
                f"nothing is left of what {self.folder} was built from, so nothing was changed;"
                f" `ragx index rm --index {self.folder}` deletes an index"
            )


def _name(source: Path | DatasetSource) -> str:
    return str(source) if isinstance(source, Path) else source.dataset


def _lies_in(source: str, places: Collection[str]) -> bool:
    return any(source == place or source.startswith(f"{place}/") for place in places)
