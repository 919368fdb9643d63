from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragx import following, indexing

sys.path.insert(0, str(Path(__file__).parent))

from notes import LengthEncoder


@pytest.fixture(autouse=True, scope="module")
def encoder() -> Iterator[LengthEncoder]:
    """Stands in the place of a downloaded model."""
    encoder = LengthEncoder()
    with pytest.MonkeyPatch.context() as patch:
        for module in (indexing, following):
            patch.setattr(module, "load_encoder", lambda *_: encoder)
        yield encoder
