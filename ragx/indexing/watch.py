"""Follow folders and keep an index of them up to date."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragx.errors import ConfigError, CorpusError, IndexFolderError
from ragx.index import Index, collect_garbage, read_manifest
from ragx.indexing.build import absolute, build
from ragx.indexing.file_records import read_records
from ragx.indexing.update import update
from ragx.util.terminal import notice
from ragx.util.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = 0.2
"""Seconds without a change after which changes are indexed."""
LONGEST = 5.0
"""Seconds after which they are indexed even if more keep coming."""
RETRY = 5.0
"""Seconds after which an update that failed, because another process writes to the index, is tried again."""
COLLECTED_AFTER = 50
"""Updates after which earlier generations are deleted."""
LISTED = 20
"""Files named one by one after an update."""


def watch(
    folder: Path,
    paths: Sequence[str | Path] = (),
    *,
    log: Callable[[str], object] = notice,
    stop: threading.Event | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> None:
    """Bring an index up to date, then update it after every change of the files, until `stop` is set.

    An index that does not exist is built as soon as there is something to index. A file that cannot be read, such as
    one that is half written, keeps the passages that it has in the index and is read again after its next change. What
    else fails is logged, and tried again after the next change.

    Args:
        folder: the index.
        paths: files and folders, as of `ragx.indexing.update.update`; none: what the index was built from.
        log: called with a line for each file that was indexed, removed or skipped, and each failure.
        stop: set it, in another thread, to return within a second, or after the update in progress.
        device: as of `update`.
        dtype: as of `update`.

    Raises:
        ConfigError: watchfiles is not installed, a path does not exist, or there is nothing to watch.
        ModelError: the embedder is missing or unusable.
    """
    try:
        import watchfiles
    except ImportError:
        raise ConfigError("watching needs another package: pip install 'ragx[watch]'") from None
    places = [Path(absolute(path)) for path in paths] or _sources(folder)
    for place in places:
        if not place.exists():
            raise ConfigError(f"cannot watch {place}: there is no such file or folder")
    changed = watchfiles.watch(
        *{place if place.is_dir() else place.parent for place in places},  # editors replace files
        watch_filter=watchfiles.DefaultFilter(ignore_paths=[folder.resolve(), folder.absolute()]),
        step=round(QUIET * 1000),
        debounce=round(LONGEST * 1000),
        stop_event=stop,
        rust_timeout=500,
        yield_on_timeout=True,
    )
    known = _Known(log)
    due, updates = 0.0, 0  # the first update comes when changes are already seen
    for changes in changed:
        if not changes and time.monotonic() < due:
            continue
        due = float("inf")
        try:
            report = (
                update(folder, paths, device=device, dtype=dtype)
                if (folder / "CURRENT").exists()
                else build(paths, folder, device=device, dtype=dtype)
            )
            known.report(folder, [f"{each.source}: {each.reason}" for each in report.skipped if not each.unsupported])
            updates += 1
            if updates % COLLECTED_AFTER == 0:
                collect_garbage(folder, quiet=True)
        except (CorpusError, IndexFolderError, OSError) as error:
            known.fail(str(error))
            due = time.monotonic() + RETRY if isinstance(error, IndexFolderError) else due


@contextmanager
def watching(folders: Sequence[Path], **options: Any) -> Iterator[None]:
    """Watch what indexes were built from, in threads, until the block ends.

    Raises:
        ConfigError: as `watch`.
    """
    stop = threading.Event()
    for folder in folders:
        _sources(folder)  # report mistakes here
    threads = [
        threading.Thread(target=watch, args=(folder,), kwargs={"stop": stop, **options}, name="ragx-watch", daemon=True)
        for folder in folders
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=2)  # an update in progress publishes nothing when the process ends


class _Known:
    """What the log has said: the files of the index, and what was skipped or failed."""

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log
        self._files: dict[str, str] | None = None
        self._said: set[str] = set()

    def report(self, folder: Path, skipped: Sequence[str]) -> None:
        """Log what an update has changed, a line a file."""
        index = Index.open(folder)
        files = {source: record.sha256 for source, record in read_records(index).files.items()}
        before, self._files = self._files, files
        if before is None:
            self._log(f"watching: {counted(len(files), 'file')}, {counted(len(index), 'passage')} in {folder}")
        else:
            indexed = sorted(source for source, digest in files.items() if before.get(source) != digest)
            lines = [f"indexed {source}" for source in indexed]
            lines += [f"removed {source}" for source in sorted(before.keys() - files.keys())]
            for line in lines[:LISTED]:
                self._log(line)
            if len(lines) > LISTED:
                self._log(f"and {counted(len(lines) - LISTED, 'more file')}")
        for line in skipped:
            if line not in self._said:
                self._log(f"skipped {line}")
        self._said = set(skipped)

    def fail(self, message: str) -> None:
        """Log a failure, unless it was the last thing said."""
        if message not in self._said:
            self._log(message)
        self._said = {message}


def _sources(folder: Path) -> list[Path]:
    """The files and folders that an index was built from.

    Raises:
        IndexFolderError: there is no index.
        ConfigError: it was not built from files.
    """
    sources = [Path(source) for source in read_manifest(folder).settings.sources if isinstance(source, str)]
    if not sources:
        raise ConfigError(f"{folder} was not built from files: there is nothing to watch")
    return sources
