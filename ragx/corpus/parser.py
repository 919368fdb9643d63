"""HTML, PDF, Word files and wiki pages, parsed in a child process.

A parser that dies, hangs or eats memory costs one file or page.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import IO, cast

from ragx.corpus import parser_worker
from ragx.corpus.document import Document, Skipped, normalise, one_line
from ragx.corpus.formats import Format

MAX_SECONDS = 60.0
"""For one file."""
MAX_MEMORY_BYTES = 2 << 30
"""Address space of the child process; not enforced on Windows and macOS."""

_CONTROL = dict.fromkeys([*range(9), 11, *range(14, 32), 127], " ") | {12: "\n", 13: "\n"}
"""Characters a parser may leave behind that are no text."""


class Parser:
    """A handle on one child process, started when first needed and again after a death. Close it in the end."""

    def __init__(self) -> None:
        self.max_seconds = MAX_SECONDS
        self.max_memory_bytes = MAX_MEMORY_BYTES
        self._process: subprocess.Popen[bytes] | None = None

    def read_file(self, path: Path, id: str, format: Format) -> Document | Skipped:
        """Parse an html, pdf or docx file."""
        reply = self._ask({"format": format, "path": str(path)})
        if "reason" in reply:
            return Skipped(str(path), one_line(reply["reason"]))
        text = normalise(reply["text"].replace("\r\n", "\n").translate(_CONTROL).strip())
        if not text:
            return Skipped(str(path), "has no text")
        title = one_line(reply["title"].translate(_CONTROL)) or path.stem
        return Document(id, normalise(title), text, str(path))

    def read_wiki_page(self, path: Path, title: str, wikitext: str, media_namespaces: list[str]) -> Document | Skipped:
        """Strip a page of the dump `path` of its markup."""
        reply = self._ask({"format": "wikitext", "wikitext": wikitext, "media_namespaces": media_namespaces})
        if "reason" in reply:
            return Skipped(f"{path}:{title}", one_line(reply["reason"]))
        return Document(title, normalise(title), normalise(reply["text"]), str(path))

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, request: Mapping[str, object]) -> dict[str, str]:
        if self._process and self._process.poll() is not None:  # it died after its last reply
            self.close()
        process = self._process = self._process or self._start()
        timer = Timer(self.max_seconds, process.kill)
        started = monotonic()
        timer.start()
        try:
            _send(cast("IO[bytes]", process.stdin), request)
            reply = _receive(cast("IO[bytes]", process.stdout))
        except (EOFError, BrokenPipeError):
            reply = None
        finally:
            timer.cancel()
            timer.join()
        late = monotonic() - started >= self.max_seconds
        if late or reply is None:  # if late, the timer may have killed it just after the reply
            self.close()
        if reply is not None:
            return reply
        if late:
            return {"reason": f"took its parser more than {self.max_seconds:g} seconds"}
        return {"reason": f"its parser died: it is damaged or needs over {self.max_memory_bytes >> 20} MB of memory"}

    def _start(self) -> subprocess.Popen[bytes]:
        # -P keeps the working folder and the script's own off the import path: no file of a corpus becomes a module
        command = [sys.executable, "-P", parser_worker.__file__, str(self.max_memory_bytes), str(self.max_seconds)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)


def _send(pipe: IO[bytes], message: Mapping[str, object]) -> None:
    data = json.dumps(message).encode()
    pipe.write(len(data).to_bytes(4, "big") + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> dict[str, str]:
    message: dict[str, str] = json.loads(_read(pipe, int.from_bytes(_read(pipe, 4), "big")))
    return message


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
