"""Child process that parses files and wiki pages, one at a time. `parser.py` runs this file by its path.

A message is the length of its JSON in 4 bytes, big-endian, then the JSON. A request is `{"format", "path", "options"}`;
the options may be missing. For a page it is `{"format": "wikitext", "wikitext", "media_namespaces"}`. The reply is
`{"documents": […]}`, each the fields of a `Parsed`, or `{"reason"}`. For a format of `STREAMS` the replies are any
number of `{"parts": […], "last": false}`, then one whose `last` is true, or `{"reason"}`.

The parser of a file's format is `parse(path)` in the module of `ragx.corpus.extract` that has its name: it returns a
`Parsed`, or several. It gets those options that it has parameters for; with `working`, if it has that one, it sends
`{"working": true}`, and the time limit begins anew.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from inspect import signature
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragx.corpus.extract.parsed import Parsed

MAX_FILE_BYTES = 256 << 20
MAX_TEXT_CHARS = 50_000_000
PART_CHARS = 1 << 20
PART_SECONDS = 1.0
"""A part of a file of rows is sent when it reaches this much text or time."""


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    from ragx.corpus.rows import read_parquet

    return map(asdict, read_parquet(path))


def wiki_pages(path: Path) -> Iterator[dict[str, Any]]:
    from ragx.corpus.wiki.dump import read_pages

    return map(asdict, read_pages(path))


def mails(path: Path, attachments: str) -> Iterator[dict[str, Any]]:
    from ragx.corpus.extract.mbox import read_mails

    return map(asdict, read_mails(path, attachments))


STREAMS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "parquet": parquet_rows,
    "mediawiki": wiki_pages,
    "mbox": mails,
}


def replies(request: dict[str, Any], working: Callable[[], object]) -> Iterator[dict[str, Any]]:
    if request["format"] in STREAMS:
        yield from stream(request)
    else:
        yield parse(request, working)


def stream(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from ragx.corpus.extract.parsed import UnreadableError

    parts, chars, started = [], 0, monotonic()
    try:
        for part in STREAMS[request["format"]](Path(request["path"]), **request.get("options", {})):
            parts.append(part)
            chars += sum(len(value) for value in part.values() if isinstance(value, str))
            if chars > PART_CHARS or monotonic() - started > PART_SECONDS:
                yield {"parts": parts, "last": False}
                parts, chars, started = [], 0, monotonic()
    except MemoryError:
        raise
    except Exception as error:  # as in `parse`
        if parts:
            yield {"parts": parts, "last": False}
        yield {"reason": str(error) if isinstance(error, UnreadableError) else f"{type(error).__name__}: {error}"}
    else:
        yield {"parts": parts, "last": True}


def parse(request: dict[str, Any], working: Callable[[], object]) -> dict[str, Any]:
    from ragx.corpus.extract.parsed import Parsed, UnreadableError

    try:
        parsed = parse_page(request) if request["format"] == "wikitext" else parse_file(request, working)
        documents = [parsed] if isinstance(parsed, Parsed) else list(parsed)
        if sum(len(document.text) for document in documents) > MAX_TEXT_CHARS:
            raise UnreadableError(f"holds more than {MAX_TEXT_CHARS // 1_000_000} million characters of text: split it")
    except UnreadableError as error:
        return {"reason": str(error)}
    except MemoryError:
        raise
    except Exception as error:  # a parser can fail in any way on a damaged file
        return {"reason": f"cannot be parsed: {type(error).__name__}: {error}"}
    return {"documents": [asdict(document) for document in documents]}


def parse_page(request: dict[str, Any]) -> Parsed:
    from ragx.corpus.extract.parsed import Parsed
    from ragx.corpus.wiki.wikitext import parse_wikitext

    text, headings = parse_wikitext(request["wikitext"], frozenset(request["media_namespaces"]))
    return Parsed(text, headings=headings)


def parse_file(request: dict[str, Any], working: Callable[[], object]) -> Any:
    from ragx.corpus.extract.parsed import UnreadableError

    path = Path(request["path"])
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UnreadableError(f"is larger than {MAX_FILE_BYTES >> 20} MB")
    parse = import_module(f"ragx.corpus.extract.{request['format']}").parse
    options = {**request.get("options", {}), "working": working}
    return parse(path, **{name: value for name, value in options.items() if name in signature(parse).parameters})


def limit_memory(max_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def set_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    memory_bytes, seconds = int(sys.argv[1]), float(sys.argv[2])
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of libraries must not mix with the replies
    limit_memory(memory_bytes)
    sys.path.append(str(Path(__file__).parents[3]))  # the folder of ragx, in case it is not installed

    def send(message: dict[str, Any]) -> None:
        reply = json.dumps(message).encode()
        set_alarm(0)  # the parent may wait before it reads on
        pipe.write(len(reply).to_bytes(4, "big") + reply)
        pipe.flush()
        set_alarm(seconds + 1)

    while header := sys.stdin.buffer.read(4):
        request = json.loads(sys.stdin.buffer.read(int.from_bytes(header, "big")))
        set_alarm(seconds + 1)  # the parent kills at `seconds`; this is in case it has died
        for message in replies(request, lambda: send({"working": True})):
            send(message)
        set_alarm(0)


if __name__ == "__main__":
    main()
