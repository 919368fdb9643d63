"""What `ask` and the commands that stay (`chat`, `serve`, `mcp`) begin with: an index and the models that answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragx.terminal import notice, waiting

if TYPE_CHECKING:
    from ragx.rag import RAG


def open_rag(index: Path | None, model: str | None, **options: Any) -> RAG:
    """Open an index and load its models, showing what is waited for; then what the user should know of them.

    Args:
        index: an index folder; None: the default one.
        model: the decoder or CEPE reader; None: the default one.
        options: the others of `RAG.from_index`, which checks them.

    Raises:
        IndexFolderError, ModelError, ConfigError: as `RAG.from_index`.
    """
    from ragx.models import resolve
    from ragx.rag import DEFAULT_MODEL, RAG

    name = model or DEFAULT_MODEL
    resolve(name)  # a download shows its own progress
    with waiting("loading models …"):
        rag = RAG.from_index(index, model=name, **options)
    for note in rag.notes:
        notice(note)
    return rag
