"""An index in an object store, or wherever fsspec reads: its newest generation is copied to this machine, to be read.

A copy is a folder like any index, in `$RAGX_HOME/remote/<digest of the URL>/`, with the file `ORIGIN`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from tqdm import tqdm

from ragx.errors import IndexFolderError
from ragx.index.manifest import ORIGIN, STAGING, current_generation, generations, load_manifest
from ragx.models.fetch import offline
from ragx.util.files import durable_file, sha256, sync_folder, writing
from ragx.util.folders import cache_home
from ragx.util.terminal import notice
from ragx.util.text import first_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_OF_ARROW = {"s3", "gs", "abfs", "abfss", "hdfs"}
"""Stores that pyarrow reads without further packages."""
_BLOCK = 8 << 20
FOLLOWED_EVERY = 60.0
"""Seconds between checks of the origin of a copy."""
_fetched: dict[Path, str] = {}
"""The URLs of the copies that this process reads."""


def fetch_index(url: str) -> Path:
    """The folder of a copy of the index at `url`; files that are here already are not read again.

    An interrupted copy continues. If the store cannot be reached, an earlier copy serves, with a notice.

    Raises:
        IndexFolderError: there is no index, it is damaged, or it can be neither read nor stored.
    """
    shown = _without_secrets(url)
    folder = cache_home() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:24]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        try:
            if offline():
                raise IndexFolderError(f"{shown} is on the network, which --offline and RAGX_OFFLINE rule out")
            _update(folder, url, shown)
        except IndexFolderError as error:
            if not (folder / "CURRENT").exists():
                raise
            notice(f"{error}; the copy of {load_manifest(current_generation(folder)).created} is read")
    if not offline():
        _fetched[folder] = url
    return folder


@contextmanager
def following(folders: Iterable[Path], seconds: float = FOLLOWED_EVERY) -> Iterator[None]:
    """Keep copies made by `fetch_index` up to date, in a thread, until the block ends; other folders are ignored.

    A failure is reported once and retried.
    """
    urls = {folder: _fetched[folder] for folder in folders if folder in _fetched}
    if not urls:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(urls, seconds, stop), name="ragx-follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=2)  # a copy in progress continues next time


def _follow(urls: Mapping[Path, str], seconds: float, stop: threading.Event) -> None:
    reported: dict[Path, str] = {}
    while not stop.wait(seconds):
        for folder, url in urls.items():
            shown, problem = _without_secrets(url), ""
            try:
                before = current_generation(folder)
                with writing(folder), FileLock(folder.with_name(f"{folder.name}.lock")):
                    _update(folder, url, shown, quiet=True)
                if current_generation(folder) != before:
                    notice(f"{current_generation(folder).name} of {shown} is in use now")
            except IndexFolderError as error:
                problem = f"{error}; still using the earlier copy"
            if problem and problem != reported.get(folder):
                notice(problem)
            reported[folder] = problem


def _update(folder: Path, url: str, shown: str, *, quiet: bool = False) -> None:
    """Copy the generation that the origin's CURRENT names, unless it is here."""
    store, root = _opened(url, shown)

    def read(name: str, out: Path, seen: Callable[[int], object]) -> None:
        try:
            with store.open(f"{root.rstrip('/')}/{name}", "rb") as source:
                blocks = iter(lambda: source.read(_BLOCK), b"")
                with durable_file(out) as file:
                    for block in blocks:
                        file.write(block)
                        seen(len(block))
        except Exception as error:  # each store has its own
            if isinstance(error, IndexFolderError):
                raise
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else first_line(error)
            raise IndexFolderError(f"cannot read {shown}/{name}: {reason}") from None

    draft = folder / STAGING
    with writing(folder):
        (draft / "new").mkdir(parents=True, exist_ok=True)
        (folder / ORIGIN).write_text(f"{shown}\n", encoding="utf-8")
    read("CURRENT", draft / "new" / "CURRENT", lambda _: None)
    newest = (draft / "new" / "CURRENT").read_text(encoding="ascii", errors="replace").strip()[:64]
    if not re.fullmatch(r"gen-\d{4,}", newest, re.ASCII):
        raise IndexFolderError(f"{shown}/CURRENT is damaged: it does not name a generation")
    read(f"{newest}/manifest.json", draft / "new" / "manifest.json", lambda _: None)
    manifest = load_manifest(draft / "new")
    if (folder / newest).is_dir() and load_manifest(folder / newest) == manifest:
        shutil.rmtree(draft)
        return
    here = {}
    for generation in generations(folder)[-1:]:
        here = {entry.sha256: generation / name for name, entry in load_manifest(generation).files.items()}
    total = sum(entry.size for entry in manifest.files.values())
    with (
        tqdm(total=total, desc=f"copying {shown}", unit="B", unit_scale=True, disable=quiet) as progress,
        writing(folder),
    ):
        for name, entry in manifest.files.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() and entry.sha256 in here:
                path.hardlink_to(here[entry.sha256])
            if path.is_file() and path.stat().st_size == entry.size and sha256(path) == entry.sha256:
                progress.update(entry.size)
                continue
            path.unlink(missing_ok=True)
            read(f"{newest}/{name}", path, progress.update)
            if sha256(path) != entry.sha256:
                raise IndexFolderError(f"{shown}/{newest}/{name} is damaged: a wrong checksum")
    (draft / "new" / "manifest.json").replace(draft / "manifest.json")
    with writing(folder):
        _publish(folder, draft, newest)


def _publish(folder: Path, draft: Path, newest: str) -> None:
    """Make a complete copy of a generation the current one, and delete earlier ones."""
    shutil.rmtree(draft / "new")
    if (folder / newest).is_dir():  # the index was built anew
        shutil.rmtree(folder / newest)
    draft.rename(folder / newest)
    with durable_file(folder / "CURRENT") as file:
        file.write(f"{newest}\n".encode())
    for generation in generations(folder):
        if generation.name != newest:
            shutil.rmtree(generation)
    sync_folder(folder)


def _opened(url: str, shown: str) -> tuple[AbstractFileSystem, str]:
    """The store and the path in it."""
    try:
        if url.partition(":")[0] in _OF_ARROW:
            from fsspec.implementations.arrow import ArrowFSWrapper
            from pyarrow.fs import FileSystem

            store, path = FileSystem.from_uri(url)
            return ArrowFSWrapper(store), path
        from fsspec.core import url_to_fs

        opened: tuple[Any, str] = url_to_fs(url)
        return opened
    except (ImportError, ValueError, OSError) as error:
        reason = first_line(error).replace(url, shown)
        raise IndexFolderError(f"cannot open {shown}: {reason}") from None


def _without_secrets(url: str) -> str:
    """The URL without keys, which may stand before its host and in its query, and without a last slash."""
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0]).rstrip("/")
