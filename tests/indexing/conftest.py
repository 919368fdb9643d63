from __future__ import annotations

from collections.abc import Iterator

import pytest

from ragx.indexing import build as indexing
from tests.helpers.notes import LengthEmbedder


@pytest.fixture(autouse=True, scope="module")
def embedder() -> Iterator[LengthEmbedder]:
    """Replaces a downloaded model."""
    embedder = LengthEmbedder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "open_embedder", lambda *_: embedder)
        yield embedder
