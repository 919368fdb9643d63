"""`ragx index`: build and update an index. Heavy imports happen inside the commands."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragx.cli.maintain import app as maintain
from ragx.cli.options import Address, Device, Dtype, Engine, EngineName, IndexFolder, Json, Offline, with_settings
from ragx.config import EncodingOptions
from ragx.errors import ConfigError, RagxError
from ragx.util.terminal import notice, waiting

if TYPE_CHECKING:
    from ragx.indexing.build import BuildReport
    from ragx.reader.cepe import CepeReader

Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")]

app = typer.Typer(no_args_is_help=True, help="Build, update and maintain indexes.")
app.add_typer(maintain)


@app.command("build", context_settings={"ignore_unknown_options": True})
@with_settings
def index_build(
    context: typer.Context,
    encoding: EncodingOptions,
    paths: Annotated[
        list[str] | None, typer.Argument(help="Files and folders, and settings such as --chunking.size=50.")
    ] = None,
    index: IndexFolder = None,
    recipe: Annotated[Path | None, typer.Option(help="YAML file of settings and, optionally, sources.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Embedder: a registered name, a folder or a Hub id.")] = None,
    faiss: Annotated[str | None, typer.Option(help="flat, hnsw, ivfpq, or any FAISS factory string.")] = None,
    vectors: Annotated[
        str | None, typer.Option(help="Number format of stored vectors: float32, float16 or int8.")
    ] = None,
    shard_size: Annotated[int | None, typer.Option(min=1, help="Passages per shard.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Glob of files to read in folders; repeatable.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Glob of files to exclude; repeatable.")] = None,
    strict: Strict = False,
    engine: Engine = "local",
    address: Address = None,
    encode: Annotated[bool, typer.Option("--encode", help="Also encode all passages, as `index encode` does.")] = False,
    offline: Offline = False,
) -> None:
    """Index files: text, Markdown, HTML, PDF, Word, JSON lines, Parquet, DPR passages, MediaWiki dumps."""
    from ragx.cli.setup import connected
    from ragx.config import IndexSettings, load_settings
    from ragx.index import read_manifest
    from ragx.indexing.build import absolute, build, check_engine
    from ragx.rag import default_index

    given = {
        "embedder": embedder,
        "faiss": faiss,
        "vectors": vectors,
        "shard_size": shard_size,
        "include": include,
        "exclude": exclude,
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
    for name in () if encode else ("model", "cache_size", "encodings", "bits"):
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE":
            raise ConfigError(f"--{name.replace('_', '-')} requires --encode")
    folder = index or default_index()
    with contextlib.suppress(RagxError):  # no index there yet
        sources_before = [str(source) for source in read_manifest(folder).settings.sources]
        if sources_before != [
            *map(absolute, sources),
            *(absolute(s) if isinstance(s, str) else str(s) for s in settings.sources),
        ]:
            notice(f"{folder} was built from {', '.join(sources_before)}: this build replaces it when complete")
    reader = _encoding_reader(encoding, engine) if encode else None
    with connected(engine, address):
        report = build(
            sources, folder, settings, strict=strict, device=encoding.device, dtype=encoding.dtype, engine=engine
        )
        _report_skipped(report)
        counts = report.counts
        notice(
            f"{counts.documents} documents, {counts.passages} passages indexed in {folder}"
            f" ({counts.duplicates} duplicate and {counts.empty} empty passages dropped{_skipped(report)})"
        )
        if reader is not None:
            _encode(folder, reader, encoding, engine)
    if report.skipped:
        raise typer.Exit(3)


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
    from ragx.indexing.update import update
    from ragx.rag import default_index

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
    for skipped in report.skipped:
        notice(f"skipped {skipped.source}: {skipped.reason}")


def _skipped(report: BuildReport) -> str:
    return f"; {len(report.skipped)} files or rows skipped" if report.skipped else ""


@app.command("encode")
@with_settings
def index_encode(
    encoding: EncodingOptions,
    index: IndexFolder = None,
    engine: Engine = "local",
    address: Address = None,
    offline: Offline = False,
) -> None:
    """Encode all passages ahead of questions; resumes an interrupted run."""
    from ragx.cli.setup import connected
    from ragx.indexing.build import check_engine
    from ragx.rag import default_index

    check_engine(engine, address)
    reader = _encoding_reader(encoding, engine)
    with connected(engine, address):
        _encode(index or default_index(), reader, encoding, engine)


def _encoding_reader(options: EncodingOptions, engine: str) -> CepeReader:
    from ragx.indexing.encode import open_encoding_reader
    from ragx.models import resolve

    resolve(options.model)  # a download shows its own progress
    with waiting("loading models …"):
        here = options if engine == "local" else options.model_copy(update={"device": "cpu"})  # else workers encode
        return open_encoding_reader(here)


def _encode(folder: Path, reader: CepeReader, options: EncodingOptions, engine: str) -> None:
    from ragx.indexing.encode import cluster_encoding, encode_index

    encode = None
    if engine == "ray":
        encode = cluster_encoding(options.model, reader, device=options.device, bits=options.bits)
    filled = encode_index(folder, reader, encode)
    notice(f"{filled.encoded} passages encoded, {filled.present} already on disk")
    if not filled.complete:
        notice("not all encodings fit on disk: `ask` computes the rest when needed; increase --cache-size")


def _setting(argument: str) -> str:
    if "=" not in argument:
        raise ConfigError(f"unknown option {argument}; see `ragx index build --help`, write settings as --a.b=value")
    return argument
