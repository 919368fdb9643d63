"""The format of a file, by its name or, where that is not enough, by its first bytes."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from pathlib import Path, PurePath
from typing import Literal

from ragx.corpus.fields import id_field, text_field
from ragx.util.compressed import COMPRESSED, open_bytes

Format = Literal[
    "text", "markdown", "rst", "org", "latex", "subtitles", "json", "yaml", "xml", "man", "code", "notebook",
    "table", "html", "epub", "eml", "msg", "mbox", "pdf", "docx", "pptx", "xlsx", "xls", "odf", "rtf", "doc", "jsonl",
    "csv", "parquet", "dpr", "mediawiki", "archive", "compressed",
]  # fmt: skip

SUFFIXES: dict[Format, str] = {
    "text": ".txt .text .log .adoc .asciidoc .textile .diff .patch .bib",
    "markdown": ".md .markdown .mdx",
    "rst": ".rst",
    "org": ".org",
    "latex": ".tex",
    "subtitles": ".srt .vtt",
    "json": ".json .jsonc",
    "yaml": ".yaml .yml",
    "code": (
        ".py .pyi .js .mjs .cjs .jsx .ts .tsx .go .java .c .h .cc .cpp .cxx .hh .hpp .rs .rb .sh .bash .cs .php "
        ".pl .pm .lua .r .jl .kt .swift .scala .sql .css .scss .less .vue .svelte .ps1 .bat .cmake .mk .gradle .groovy "
        ".clj .ex .erl .hs .ml .el .vim .tcl .f90 .dart .zig .proto .graphql .tf .toml .ini .cfg .conf .properties"
    ),
    "xml": ".xml .nxml .rss .atom .docbook .dbk .dita .tei .opml",
    "notebook": ".ipynb",
    "table": ".csv .tsv",
    "html": ".html .htm .xhtml .xht",
    "pdf": ".pdf",
    "docx": ".docx .docm .dotx .dotm",
    "pptx": ".pptx .pptm .ppsx .ppsm .potx .potm",
    "xlsx": ".xlsx .xlsm .xltx .xltm",
    "xls": ".xls .xlt .xlsb",
    "odf": ".odt .ott .ods .ots .odp .otp .odg .fodt .fods .fodp .fodg",
    "rtf": ".rtf",
    "doc": ".doc .dot .ppt .pps .pot",
    "epub": ".epub",
    "eml": ".eml .emlx",
    "msg": ".msg",
    "mbox": ".mbox .mbx",
    "jsonl": ".jsonl .ndjson",
    "parquet": ".parquet",
    "archive": ".zip",
}
"""Suffixes of each format; files of the others are recognised by their names and first bytes (`BY_CONTENT`)."""
_NAMES: dict[Format, str] = {
    "text": (
        "authors changelog changes contributing contributors copying copyright credits faq history install licence "
        "license maintainers news notice readme security thanks todo"
    ),
    "code": "containerfile dockerfile gemfile gnumakefile jenkinsfile makefile procfile rakefile vagrantfile",
}
"""Names of files without a suffix, or with an unknown one as in README.Debian and Makefile.am."""
_BY_SUFFIX = {suffix: format for format, suffixes in SUFFIXES.items() for suffix in suffixes.split()}
EXTRACTED = frozenset[Format](
    (
        *("markdown", "rst", "org", "latex", "subtitles", "json", "yaml", "xml", "man", "code", "notebook", "table"),
        *("html", "epub", "eml", "msg", "pdf", "docx", "pptx", "xlsx", "xls", "odf", "rtf", "doc"),
    )
)
"""Formats whose files are parsed in a child process, by the module of `extract` that has their name."""
_TABLES = (".csv", ".tsv")
_MAN_SUFFIX = re.compile(r"\.[1-9]\w{0,4}")
_MAN_PAGE = re.compile(rb"^[.'](?:\\\"|TH\b|SH\b|Dd\b)", re.MULTILINE)
BY_CONTENT: dict[Format, str] = {
    "text": "README, LICENSE, CHANGES and the like, app.log.1; any other file of plain text that is named itself",
    "code": "Makefile, Dockerfile and the like",
    "man": ".1 to .9, .3pm and the like",
    "csv": f".csv .tsv with columns of ids and texts, also {' '.join(COMPRESSED)}",
    "dpr": '.tsv with the header "id, text, title"',
    "mediawiki": f".xml dumps of MediaWiki, also {' '.join(COMPRESSED)}",
    "compressed": f"a file of any other format, but an archive, with {' '.join(COMPRESSED)}",
}
_BY_CONTENT = {*_TABLES, ".xml", *COMPRESSED}
_BY_NAME = {name: format for format, names in _NAMES.items() for name in names.split()}
_HEAD_BYTES = 4096


def format_of(path: Path, *, look_inside: bool = False) -> Format | None:
    """The format of a file; None if unknown. `look_inside` opens the file whatever its name, and takes plain text.

    Raises:
        OSError, EOFError, zlib.error, lzma.LZMAError: the file had to be opened and cannot be read.
    """
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix
    if suffix in _BY_SUFFIX and suffix not in _BY_CONTENT:
        return _BY_SUFFIX[suffix]
    if _BY_SUFFIX.get(inner) == "jsonl":
        return "jsonl"
    named = _BY_NAME.get(path.stem.lower())
    if named and not suffix:
        return named
    is_numbered = _MAN_SUFFIX.fullmatch(suffix) is not None
    if not (look_inside or named or is_numbered or suffix in _BY_CONTENT):
        return None
    with open_bytes(path) as file:
        head = file.read(_HEAD_BYTES)
    if b"<mediawiki" in head.replace(b"\0", b""):  # without the zeros of UTF-16
        return "mediawiki"
    first, *_ = head.removeprefix(b"\xef\xbb\xbf").splitlines() or [b""]
    if first == b"id\ttext\ttitle":
        return "dpr"
    if inner in _TABLES and _names_rows(first) and _is_utf8(head):
        return "csv"
    if is_numbered and _MAN_PAGE.search(head):
        return "man"
    if is_numbered and _BY_SUFFIX.get(Path(path.stem).suffix.lower()) == "text":
        return "text"
    if suffix in COMPRESSED:
        return "compressed" if _is_named(Path(path.stem)) else None
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    return (named or "text") if (look_inside or named) and b"\0" not in head and _is_utf8(head) else None


def format_by_name(path: PurePath) -> tuple[Format | None, str]:
    """The format that a file's name alone tells, and the suffix without its dot; both of what is compressed."""
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    suffix = path.suffix.lower()
    return _BY_SUFFIX.get(suffix) or _BY_NAME.get(path.stem.lower()), suffix.removeprefix(".")


def _is_named(path: Path) -> bool:
    """Whether the name of a file, without the suffix of its compression, can be that of a format, but an archive."""
    suffix = path.suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix] != "archive"
    return path.stem.lower() in _BY_NAME or _MAN_SUFFIX.fullmatch(suffix) is not None


def attachment_format(path: Path) -> Format | None:
    """The format as which an attachment of a mail is parsed; None if it is not. Errors as of `format_of`."""
    format = format_of(path)
    if format == "csv":
        return "table"
    return format if format in EXTRACTED or format == "text" else None


def _names_rows(header: bytes) -> bool:
    """Whether the first line of a table names a column of ids and one of texts."""
    names = row_delimiter(header.decode(errors="replace"))[1]
    return id_field(names) is not None and text_field(names) is not None


def _is_utf8(head: bytes) -> bool:
    """Whether the beginning of a file is UTF-8. Rows are read as such; the encoding of a table is guessed."""
    try:
        getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def row_delimiter(header: str) -> tuple[str, list[str]]:
    """The delimiter of a table by its first line, and the names of its columns."""
    delimiter = max("\t,;", key=header.count)
    return delimiter, [name.strip().strip('"') for name in header.split(delimiter)]
