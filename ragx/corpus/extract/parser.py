"""One child process with limits, in which large libraries, many of them native, parse files.

A parser that crashes, hangs or runs out of memory costs one file or page, or the rest of a file of rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import IO, Any, NamedTuple, cast

from ragx.corpus.document import MAX_ID_CHARS, Document, Heading, Skipped, normalise, one_line
from ragx.corpus.extract.parsed import Parsed, clean
from ragx.corpus.formats import Format

MAX_SECONDS = 60.0
"""Time limit for one file, for the next part of a file of rows, or for the next scanned page."""
MAX_MEMORY_BYTES = 2 << 30
"""Address space of the child process; not enforced on Windows and macOS."""
_MAX_REPLY_BYTES = 1 << 30
_WORKER = Path(__file__).with_name("worker.py")


class Attachment(NamedTuple):
    """A file that was attached to a mail."""

    name: str
    """Unique in the file that holds the mail."""
    path: Path


Entry = Document | Skipped | Attachment


class Parser:
    """A handle on one child process, started when first needed and restarted after a crash. Close it when done."""

    def __init__(
        self,
        max_seconds: float = MAX_SECONDS,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        options: Mapping[str, object] | None = None,
    ) -> None:
        """Prepare to parse.

        Args:
            max_seconds: for one file, or the next part of a file of rows.
            max_memory_bytes: address space.
            options: arguments of the formats' parsers, each for those that take it, such as `comments`.
        """
        self.max_seconds = max_seconds
        self.max_memory_bytes = max_memory_bytes
        self.options = options or {}
        self._process: subprocess.Popen[bytes] | None = None

    def read_file(self, path: Path, id: str, format: Format, attachments: str = "") -> list[Entry]:
        """Parse a file: its documents, then what of it could not be read, and its attachments.

        Args:
            path: of the file.
            id: of the file.
            format: of the file.
            attachments: folder to which those of mails are written; empty: they are only named.
        """
        options = {**self.options, "attachments": attachments}
        reply = self._ask({"format": format, "path": str(path), "options": options})
        while "working" in reply:
            reply = self._ask(None)
        if "reason" in reply:
            return [Skipped(str(path), one_line(reply["reason"]))]
        found = [_parsed(fields) for fields in reply["documents"]]
        documents = [_document(parsed, id, path) for parsed in found if parsed.text]
        missing = [one_line(reason) for parsed in found for reason in parsed.missing]
        attached = [Attachment(name, Path(file)) for parsed in found for name, file in parsed.attached]
        if not documents and not missing and not attached:
            missing = ["has no text"]
        return [*documents, *(Skipped(str(path), reason, partial=bool(documents)) for reason in missing), *attached]

    def read_rows(self, path: Path, format: Format) -> Iterator[Document | Skipped]:
        """The rows of a parquet file. Nothing else can be parsed until the iterator is exhausted or closed."""
        for row in self.parts(path, format):
            yield Document(**row | {"headings": ()}) if "text" in row else Skipped(**row)

    def read_mails(self, path: Path, id: str, attachments: str = "") -> Iterator[Entry]:
        """The mails of a mailbox, what could not be read, and attachments; see `read_rows` and `read_file`."""
        for fields in self.parts(path, "mbox", attachments=attachments):
            if "text" not in fields:
                yield Skipped(**fields)
                continue
            mail = _parsed(fields)
            if mail.text:
                yield _document(mail, id, path)
            for reason in mail.missing:
                yield Skipped(str(path), one_line(reason), partial=bool(mail.text))
            for name, file in mail.attached:
                yield Attachment(f"{mail.name}/{name}", Path(file))

    def parts(self, path: Path, format: Format, **options: object) -> Generator[dict[str, Any], None, None]:
        """What `worker.STREAMS` yields for a file; last, if it broke off, the reason as the fields of a `Skipped`."""
        count = 0
        reply: dict[str, Any] = {}
        try:
            reply = self._ask({"format": format, "path": str(path), "options": options})
            while "parts" in reply:
                yield from reply["parts"]
                count += len(reply["parts"])
                if reply["last"]:
                    return
                reply = self._ask(None)
            unit = "mail" if format == "mbox" else "row"
            where = f"cannot be read beyond {unit} {count}: " if count else ""
            yield {"source": str(path), "reason": where + one_line(reply["reason"]), "unreadable": True}
        finally:
            if not reply.get("last"):  # closed early: the rest must not be taken for the reply about the next file
                self.close()

    def read_wiki_page(self, path: Path, title: str, wikitext: str, media_namespaces: list[str]) -> Document | Skipped:
        """Strip the markup from a page of the dump `path`."""
        if len(title) > MAX_ID_CHARS:
            return Skipped(f"{path}:{one_line(title)}", f"its title is longer than {MAX_ID_CHARS:,} characters")
        reply = self._ask({"format": "wikitext", "wikitext": wikitext, "media_namespaces": media_namespaces})
        if "reason" in reply:
            return Skipped(f"{path}:{title}", one_line(reply["reason"]))
        (fields,) = reply["documents"]
        return replace(_document(_parsed(fields), title, path), title=normalise(title))

    def kill(self) -> None:
        """End the process from another thread; a file being parsed is then skipped."""
        if process := self._process:
            process.kill()

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, request: Mapping[str, object] | None) -> dict[str, Any]:
        """The reply to a request; None asks for the next reply to the last one."""
        if self._process and self._process.poll() is not None:  # it crashed after its last reply
            self.close()
        process = self._process = self._process or self._start()
        timer = Timer(self.max_seconds, process.kill)
        started = monotonic()
        timer.start()
        try:
            if request is not None:
                _send(cast("IO[bytes]", process.stdin), request)
            reply = _receive(cast("IO[bytes]", process.stdout))
        except (EOFError, BrokenPipeError, ValueError):  # ValueError: a broken process does not reply in JSON
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
            return {"reason": f"took more than {self.max_seconds:g} seconds to parse"}
        return {"reason": f"crashed its parser: it is damaged or needs over {self.max_memory_bytes >> 20} MB of memory"}

    def _start(self) -> subprocess.Popen[bytes]:
        # -P keeps the working folder and the script's folder off the import path: no file of a corpus is imported
        command = [sys.executable, "-P", str(_WORKER), str(self.max_memory_bytes), str(self.max_seconds)]
        pipe = subprocess.PIPE
        # allocators that reserve address space for each thread would hit the limit on a machine of many cores
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"}
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment)


def _parsed(fields: dict[str, Any]) -> Parsed:
    headings = [Heading(each["start"], each["level"], one_line(each["text"])) for each in fields["headings"]]
    return Parsed(**fields | {"headings": headings})


def _document(parsed: Parsed, id: str, path: Path) -> Document:
    metadata = ({"pages": parsed.text.count("\f") + 1} if parsed.paged else {}) | parsed.metadata
    return Document(
        id=f"{id}/{parsed.name}" if parsed.name else id,
        title=clean(one_line(clean(parsed.title)) or path.stem),
        text=parsed.text,
        source=str(path),
        headings=tuple(parsed.headings),
        paged=parsed.paged,
        metadata=json.dumps(metadata, ensure_ascii=False) if metadata else "",
    )


def _send(pipe: IO[bytes], message: Mapping[str, object]) -> None:
    data = json.dumps(message).encode()
    pipe.write(len(data).to_bytes(4, "big") + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> dict[str, Any]:
    size = int.from_bytes(_read(pipe, 4), "big")
    if size > _MAX_REPLY_BYTES:
        raise EOFError
    message = json.loads(_read(pipe, size))
    if not isinstance(message, dict):
        raise ValueError("no JSON object")
    return message


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
