from __future__ import annotations

from collections.abc import Iterator

import pytest

from ragx.indexing import build as indexing
from tests.helpers.notes import LengthEncoder


@pytest.fixture(autouse=True, scope="module")
def encoder() -> Iterator[LengthEncoder]:
    """Stands in the place of a downloaded model."""
    encoder = LengthEncoder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "load_encoder", lambda *_: encoder)
        yield encoder
