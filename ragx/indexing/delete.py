"""Delete documents from an index."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from ragx.errors import IndexFolderError
from ragx.index import Index
from ragx.index.lock import index_lock
from ragx.index.manifest import current_generation
from ragx.index.update import apply_changes
from ragx.indexing.build import absolute, lies_in
from ragx.indexing.file_records import Deletion, read_records
from ragx.util.files import sha256
from ragx.util.text import without_surrogates


def delete(folder: Path, names: Collection[str]) -> int:
    """Delete documents from an index, by their ids or by the file or folder that they came from.

    They stay deleted at the next update unless their file has changed by then.

    Returns:
        How many passages were deleted.

    Raises:
        IndexFolderError: there is no index in `folder`, a name matches nothing or is ambiguous, the index is damaged or
            cannot be written, or another process is writing to it.
    """
    wanted = {without_surrogates(name): without_surrogates(absolute(name)) for name in names if name.strip()}
    if len(wanted) < len({*names}):
        raise IndexFolderError("a document name must not be empty: nothing was deleted")
    current_generation(folder)  # before the lock, which creates a missing folder
    with index_lock(folder):
        index = Index.open(folder)
        ids, sources = _find(index, wanted)
        records = read_records(index)
        for source, documents in sources.items():
            before = records.deletions.get(source)
            file = records.files.get(source)
            digest = file.sha256 if file else _digest(source)
            if before and before.sha256 == digest:
                documents |= {*before.deleted}
            records.deletions[source] = Deletion(source=source, sha256=digest, deleted=sorted(documents))
        return apply_changes(folder, index, delete=ids, sources=records.lines).deleted


def _digest(source: str) -> str:
    """SHA-256 of a file; empty for what is none."""
    try:
        return sha256(Path(source))
    except OSError:
        return ""


def _find(index: Index, wanted: Mapping[str, str]) -> tuple[list[str], dict[str, set[str]]]:
    """The passages whose document has one of the names, or comes from the path that it may mean.

    Returns:
        The ids of the passages, and the ids of their documents by source.

    Raises:
        IndexFolderError: a name matches nothing, or a document and another path.
    """
    by_id: dict[str, set[str]] = {name: set() for name in wanted}
    by_path: dict[str, set[str]] = {name: set() for name in wanted}
    ids = []
    sources: dict[str, set[str]] = {}
    for id, document, source in index.entries():
        for name, path in wanted.items():
            if document == name:
                by_id[name].add(document)
            if source == name or lies_in(source, [path]):
                by_path[name].add(document)
        if any(document in found[name] for name in wanted for found in (by_id, by_path)):
            ids.append(id)
            sources.setdefault(source, set()).add(document)
    for name, path in wanted.items():
        if not by_id[name] | by_path[name]:
            raise IndexFolderError(
                f"{index.folder} has no document, file or folder {name!r}: nothing was deleted"
                " (`ragx index docs` lists documents and sources)"
            )
        if by_id[name] and by_path[name] and by_id[name] != by_path[name]:
            raise IndexFolderError(
                f"{name!r} is a document of {index.folder}, and {path} is another: nothing was deleted (name a file by"
                " its absolute path)"
            )
    return ids, sources
