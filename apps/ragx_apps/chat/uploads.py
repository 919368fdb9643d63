"""A visitor's own files and their private index."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ragx.config import IndexSettings
from ragx.corpus.formats import SUFFIXES
from ragx.errors import ConfigError, CorpusError
from ragx.indexing.build import build
from ragx.indexing.report import BuildReport
from ragx.indexing.update import update

TYPES = tuple(suffix for format, suffixes in SUFFIXES.items() if format != "archive" for suffix in suffixes.split())
MAX_FILE_BYTES = 20_000_000
MAX_BYTES = 100_000_000
"""Limit on all files of one visitor."""
MAX_FILES = 50


class Visitor:
    """An open page: its private files and its answer in progress. Closing the page deletes its folder."""

    def __init__(self, folder: Path) -> None:
        self.files, self.index = folder / "files", folder / "index"
        self.cancel = threading.Event()
        """Stops the answer in progress."""
        self.answering = threading.Lock()
        """Held while an answer is in progress."""
        self._folder = folder
        self._closed = False
        self._adding = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The indexed files."""
        return sorted(path.name for path in self.files.glob("*"))

    def close(self) -> None:
        """Stop the answer and delete the files."""
        self._closed = True
        self.cancel.set()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, uploaded: Sequence[Path], embedder: str, on_progress: Callable[[int, int], object]) -> BuildReport:
        """Take the uploaded files over and add them to the index; wait for an upload in progress.

        `on_progress` gets the numbers of embedded passages and of all.

        Raises:
            ConfigError: they are too many, too large or of another type, or the page was closed; nothing changes then.
            CorpusError: there is no text in them; nothing changes then.
        """
        with self._adding:
            if self._closed:
                raise ConfigError("the page was closed: open it and upload again")
            check(uploaded, list(self.files.glob("*")))
            try:
                with self._taken_over(uploaded):
                    if (self.index / "CURRENT").exists():
                        return update(self.index, on_progress=on_progress)
                    return build([self.files], self.index, IndexSettings(embedder=embedder), on_progress=on_progress)
            except CorpusError as error:  # visitors see no folders of the server
                raise CorpusError(str(error).replace(f"{self.files}/", "")) from None
            finally:
                if self._closed:  # in the meantime: delete what was written since
                    shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _taken_over(self, uploaded: Sequence[Path]) -> Iterator[None]:
        """Move the uploaded files to the others; if the block fails, restore the files as they were."""
        replaced = self._folder / "replaced"
        for folder in (self.files, replaced):
            folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in uploaded}
        before = {path.name for path in self.files.iterdir()}
        try:
            for name in names & before:
                (self.files / name).replace(replaced / name)
            for path in uploaded:
                shutil.move(path, self.files / path.name)
            yield
        except BaseException:
            for name in names - before:
                (self.files / name).unlink(missing_ok=True)
            for path in replaced.glob("*"):
                path.replace(self.files / path.name)
            raise
        finally:
            shutil.rmtree(replaced, ignore_errors=True)


def check(uploaded: Sequence[Path], existing: Sequence[Path]) -> None:
    """Raise a `ConfigError` where files may not be added to the existing ones."""
    for path in uploaded:
        if path.suffix.lower() not in TYPES:
            raise ConfigError(f"{path.name} has an unsupported type; supported: {' '.join(TYPES)}")
        if not path.is_file():  # another visitor sent the same file, which Gradio stores once
            raise ConfigError(f"{path.name} is gone: upload it again")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path.name} is too large: the limit is {MAX_FILE_BYTES // 10**6} MB a file")
    files = {path.name: path for path in [*existing, *uploaded]}.values()
    if len(files) > MAX_FILES:
        raise ConfigError(f"too many files: the limit is {MAX_FILES}")
    if sum(path.stat().st_size for path in files) > MAX_BYTES:
        raise ConfigError(f"too many bytes: the limit for all files is {MAX_BYTES // 10**6} MB")
