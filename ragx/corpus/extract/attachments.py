"""Attachments of a mail, written to files that are then parsed like any other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ragx.corpus.formats import attachment_format

MAX_ATTACHMENTS = 1000
"""Of one mail, with those of the mails in it."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff<>:"/\\|?*]')
_NAME_CHARS = 60


class Attachments:
    """The attachments of one mail."""

    def __init__(self, folder: str | Path = "", modified: float = 0) -> None:
        """Args: `folder`: where to write them, empty: nowhere; `modified`: the time of the mail's file."""
        self.files: list[tuple[str, str]] = []
        """Names, each once, and paths."""
        self._folder, self._modified, self._number = folder, modified, 0

    def write(self, name: str, read: Callable[[], bytes]) -> bool:
        """Write an attachment if its format can be parsed; whether it was written."""
        if not self._folder or len(self.files) == MAX_ATTACHMENTS:
            return False
        self._number += 1
        path = Path(self._folder, str(self._number), _UNSAFE.sub("_", name)[-_NAME_CHARS:].strip(" .") or "_")
        with suppress(OSError):  # the content tells the format
            if attachment_format(path) is None:
                return False
        if not (data := read()):
            return False
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        if attachment_format(path) is None:
            return False
        os.utime(path, (self._modified, self._modified))
        names = {name for name, _ in self.files}
        self.files.append((path.name if path.name not in names else f"{len(self.files) + 1}-{path.name}", str(path)))
        return True
