"""`ragx index`: build and update an index. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragx.cli.maintain import app as maintain
from ragx.cli.options import (
    Address,
    Device,
    Dtype,
    Engine,
    EngineName,
    IndexFolder,
    Json,
    Offline,
    on_command_line,
    with_settings,
)
from ragx.config import EncodingOptions, SearchOptions
from ragx.errors import ConfigError, RagxError
from ragx.util.terminal import notice, waiting
from ragx.util.text import counted

if TYPE_CHECKING:
    from ragx.config import DatasetSource, WheelFile
    from ragx.indexing.report import BuildReport
    from ragx.reader.cepe import CepeReader
    from ragx.types import Passage

_file_option = partial(typer.Option, rich_help_panel="Files")
_indexing_option = partial(typer.Option, rich_help_panel="Indexing")

Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")]

app = typer.Typer(no_args_is_help=True, help="Build, update and maintain indexes.")
app.add_typer(maintain)


@app.command("build", context_settings={"ignore_unknown_options": True})
@with_settings
def index_build(
    context: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(help="Files and folders, and settings such as --chunking.size=50.")
    ] = None,
    index: IndexFolder = None,
    recipe: Annotated[Path | None, typer.Option(help="YAML file of settings and, optionally, sources.")] = None,
    embedder: Annotated[
        str | None,
        _indexing_option(
            help="Embedder: a registered name, a folder or a Hub id; NAME:256 keeps the first 256 dimensions."
        ),
    ] = None,
    language: Annotated[
        str | None,
        _indexing_option(help="Language of the texts, for stems and stop words of lexical search, or none."),
    ] = None,
    faiss: Annotated[
        str | None, _indexing_option(help="flat, binary, hnsw, ivfpq, or any FAISS factory string.")
    ] = None,
    vectors: Annotated[
        str | None,
        _indexing_option(help="Number format of stored vectors: float16, float32 or int8."),
    ] = None,
    shard_size: Annotated[int | None, _indexing_option(min=1, help="Passages per shard.")] = None,
    include: Annotated[list[str] | None, _file_option(help="Glob of files to read in folders; repeatable.")] = None,
    exclude: Annotated[list[str] | None, _file_option(help="Glob of files to exclude; repeatable.")] = None,
    archives: Annotated[bool, _file_option("--archives", help="Also read the files in .zip archives.")] = False,
    comments: Annotated[bool, _file_option("--comments", help="Also read the comments in office files.")] = False,
    ocr_pages: Annotated[
        int | None,
        _file_option(min=0, help="Scanned pages to recognise in each PDF file, with ragx[ocr]. Default: 100."),
    ] = None,
    *,
    encoding: EncodingOptions,
    strict: Strict = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an index of other files without asking.")] = False,
    engine: Engine = "local",
    address: Address = None,
    encode: Annotated[bool, typer.Option("--encode", help="Also encode all passages, as `index encode` does.")] = False,
    offline: Offline = False,
) -> None:
    """Index files and folders of them; `ragx index formats` lists the formats."""
    from ragx.cli.setup import connected
    from ragx.config import IndexSettings
    from ragx.index.names import default_index
    from ragx.indexing.build import build, check_engine
    from ragx.util.settings import load_settings

    given = {
        "embedder": embedder,
        "language": language,
        "faiss": faiss,
        "vectors": vectors,
        "shard_size": shard_size,
        "include": include,
        "exclude": exclude,
        "archives": archives or None,
        "comments": comments or None,
        "ocr_pages": ocr_pages,
    }
    settings = load_settings(
        IndexSettings,
        recipe,
        [_setting(path) for path in paths or [] if path.startswith("--")],
        {key: value for key, value in given.items() if value is not None},
    )
    sources = [path for path in paths or [] if not path.startswith("--")]
    for path in sources:
        if path.startswith("-"):
            raise ConfigError(f"unknown option {path}; write a path that begins with - as ./{path}")
    check_engine(engine, address)
    if not encode:
        for name in on_command_line(context, "model", "cache_size", "encodings", "bits"):
            raise ConfigError(f"--{name.replace('_', '-')} requires --encode")
    folder = index or default_index()
    if not replace:
        _ask_to_replace(folder, [*sources, *settings.sources])
    reader = _encoding_reader(encoding, engine) if encode else None
    with connected(engine, address):
        report = build(
            sources, folder, settings, strict=strict, device=encoding.device, dtype=encoding.dtype, engine=engine
        )
        _report_skipped(report)
        counts = report.counts
        notice(
            f"{counted(counts.documents, 'document')}, {counted(counts.passages, 'passage')} indexed in {folder}"
            f" (dropped as duplicate: {counts.duplicates:,}, as empty: {counts.empty:,}{_skipped(report)})"
        )
        if reader is not None:
            _encode(folder, reader, encoding, engine)
    if report.skipped:
        raise typer.Exit(3)


def _ask_to_replace(folder: Path, sources: Sequence[str | WheelFile | DatasetSource]) -> None:
    """Ask before an index of other sources is replaced.

    Raises:
        ConfigError: it must not be, or nobody can be asked.
    """
    from ragx.index import read_manifest
    from ragx.indexing.build import absolute

    try:
        before = read_manifest(folder).settings.sources
    except RagxError:  # there is none, or none that can be read
        return
    if before == [absolute(source) if isinstance(source, str) else source for source in sources]:
        return
    built_from = ", ".join(map(str, before)) or "no files"
    question = f"{folder} holds an index of {built_from}. Replace it?"
    if not sys.stdin.isatty() or not typer.confirm(question, err=True):
        raise ConfigError(
            f"{folder} holds an index of {built_from}: add --replace to replace it, --index NAME to build another one,"
            " or use `ragx index add` to keep both"
        )


@app.command("formats")
def index_formats(as_json: Json = False) -> None:
    """List the file formats that ragx reads."""
    from ragx.corpus.formats import BY_CONTENT, SUFFIXES

    names = {**SUFFIXES, **BY_CONTENT}
    formats = {name: "; ".join(filter(None, (SUFFIXES.get(name), BY_CONTENT.get(name)))) for name in names}
    if as_json:
        print(json.dumps(formats, indent=2))
        return
    print("\n".join(f"{name:<12}{suffixes}" for name, suffixes in formats.items()))


@app.command("update")
def index_update(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders. Default: the sources of the index.")
    ] = None,
    index: IndexFolder = None,
    strict: Strict = False,
    engine: Engine = "local",
    address: Address = None,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Index new and changed files; delete documents whose files are gone."""
    _update(index, paths or [], False, strict, engine, address, device, dtype, as_json)


@app.command("add")
def index_add(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    index: IndexFolder = None,
    strict: Strict = False,
    engine: Engine = "local",
    address: Address = None,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Index more files; documents with the same path are replaced."""
    _update(index, paths, True, strict, engine, address, device, dtype, as_json)


def _update(
    index: Path | None,
    paths: list[Path],
    keep: bool,
    strict: bool,
    engine: EngineName,
    address: str | None,
    device: str | None,
    dtype: str,
    as_json: bool,
) -> None:
    from ragx.cli.setup import connected
    from ragx.index.names import default_index
    from ragx.indexing.update import update

    folder = index or default_index()
    with connected(engine, address):
        report = update(folder, paths, keep=keep, strict=strict, device=device, dtype=dtype, engine=engine)
    _report_skipped(report)
    done = {"added": report.added, "deleted": report.deleted, "unchanged": report.unchanged}
    if as_json:
        skipped = [{"source": each.source, "reason": each.reason} for each in report.skipped]
        print(json.dumps({"folder": str(folder), **done, "skipped": skipped}, indent=2))
    else:
        notice(f"{', '.join(f'{count} {what}' for what, count in done.items())} passages in {folder}{_skipped(report)}")
    if report.skipped:
        raise typer.Exit(3)


def _report_skipped(report: BuildReport) -> None:
    for line in report.lines():
        notice(line)


def _skipped(report: BuildReport) -> str:
    return f"; {report.summary()}" if report.skipped else ""


@app.command("encode")
@with_settings
def index_encode(
    encoding: EncodingOptions,
    index: IndexFolder = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="JSON lines with questions: only what a search finds for them, most often found first."),
    ] = None,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Passages to find for each question. Default: 60.")] = None,
    engine: Engine = "local",
    address: Address = None,
    offline: Offline = False,
) -> None:
    """Encode passages ahead of questions; resumes an interrupted run."""
    from ragx.cli.setup import connected
    from ragx.index.names import default_index
    from ragx.indexing.build import check_engine
    from ragx.indexing.encode import found_passages

    check_engine(engine, address)
    if k is not None and questions is None:
        raise ConfigError("-k requires --questions")
    folder = index or default_index()
    found = None
    if questions is not None:
        found = found_passages(folder, questions, k or SearchOptions().k, encoding.device, encoding.dtype)
    reader = _encoding_reader(encoding, engine)
    with connected(engine, address):
        _encode(folder, reader, encoding, engine, found)


def _encoding_reader(options: EncodingOptions, engine: str) -> CepeReader:
    from ragx.indexing.encode import open_encoding_reader
    from ragx.models import resolve

    resolve(options.model)  # a download shows its own progress
    with waiting("loading models …"):
        here = options if engine == "local" else options.model_copy(update={"device": "cpu"})  # else workers encode
        return open_encoding_reader(here)


def _encode(
    folder: Path,
    reader: CepeReader,
    options: EncodingOptions,
    engine: str,
    passages: Sequence[Passage] | None = None,
) -> None:
    from ragx.indexing.encode import cluster_encoding, encode_index

    encode = None
    if engine == "ray":
        encode = cluster_encoding(options.model, reader, device=options.device, bits=options.bits)
    filled = encode_index(folder, reader, encode, passages)
    notice(f"{counted(filled.encoded, 'passage')} encoded, {filled.present} already on disk")
    if not filled.complete:
        notice("not all encodings fit on disk: `ask` computes the rest when needed; increase --cache-size")


def _setting(argument: str) -> str:
    if "=" not in argument:
        raise ConfigError(f"unknown option {argument}; see `ragx index build --help`, write settings as --a.b=value")
    return argument
