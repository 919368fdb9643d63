"""How fast files of each format are parsed: `python -m benchmarks.parsing FOLDER [--generate 40] [--rounds 3]`.

`--generate` first writes that many files of each format, with the same 36 KB of text, into FOLDER. Prints a Markdown
table: megabytes of files and of their text that one process parses in a second of CPU time, and files a second of one
and two parser processes, the best of several alternating rounds without the start of the processes.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from benchmarks.made_files import write_files
from benchmarks.tables import markdown
from ragx.corpus import Document
from ragx.corpus.extract.mbox import read_mails
from ragx.corpus.extract.parsed import Parsed, UnreadableError
from ragx.corpus.formats import EXTRACTED
from ragx.corpus.reading import FileReader
from ragx.corpus.sources import SourceFile, find_files
from ragx.corpus.text import read_text
from ragx.corpus.wiki.dump import Page, read_pages
from ragx.corpus.wiki.wikitext import parse_wikitext


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--generate", type=int, default=0, help="files of each format to write into the folder")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for number in range(options.generate):
        write_files(options.folder, number)
    files: dict[str, list[SourceFile]] = defaultdict(list)
    for file in find_files([options.folder]):
        if isinstance(file, SourceFile) and (file.format in EXTRACTED or file.format in ("text", "mbox", "mediawiki")):
            files[file.path.suffix].append(file)
    rows = []
    with FileReader(1) as one, FileReader(2) as two:
        for suffix, chosen in sorted(files.items()):
            for reader in (one, two):  # warm-up
                seconds(chosen[:4], reader)
            text_bytes(chosen[0])
            started = time.process_time()
            text = sum(map(text_bytes, chosen))
            cpu = time.process_time() - started
            size = sum(file.path.stat().st_size for file in chosen)
            rounds = [(seconds(chosen, one), seconds(chosen, two)) for _ in range(options.rounds)]
            rates = [len(chosen) / min(times) for times in zip(*rounds, strict=True)]
            row = (size / cpu / 1e6, text / cpu / 1e6, *rates)
            rows.append((suffix, len(chosen), *(f"{figure:.3g}" for figure in row)))
    columns = ("MB of file/CPU s", "MB of text/CPU s", "files/s, 1 process", "files/s, 2 processes")
    print(markdown(("suffix", "files", *columns), rows))


def seconds(files: list[SourceFile], reader: FileReader) -> float:
    """Time to parse the files."""
    started = time.perf_counter()
    for _ in reader.read(files):
        pass
    return time.perf_counter() - started


def text_bytes(file: SourceFile) -> int:
    """Parse a file in this process: the size of its text."""
    found: Iterable[object]
    match file.format:
        case "text":
            found = read_text(file.path, file.id)
        case "mbox":
            found = read_mails(file.path)
        case "mediawiki":
            pages = (page for page in read_pages(file.path) if isinstance(page, Page))
            found = (Parsed(parse_wikitext(page.wikitext, frozenset(page.media_namespaces))[0]) for page in pages)
        case format:
            try:
                parsed = import_module(f"ragx.corpus.extract.{format}").parse(file.path)
            except UnreadableError:
                return 0
            found = [parsed] if isinstance(parsed, Parsed) else parsed
    return sum(len(each.text.encode()) for each in found if isinstance(each, Document | Parsed))


if __name__ == "__main__":
    main()
