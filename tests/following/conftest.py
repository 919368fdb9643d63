from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragx import indexing

sys.path.insert(0, str(Path(__file__).parent))

from notes import LengthEncoder


@pytest.fixture(autouse=True, scope="module")
def encoder() -> Iterator[LengthEncoder]:
    """Stands in the place of a downloaded model."""
    encoder = LengthEncoder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "load_encoder", lambda *_: encoder)
        yield encoder
