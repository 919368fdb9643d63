from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.small_indexes import SNOW, Interrupted, build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index of `SNOW`."""
    build(tmp_path / "index", SNOW)
    return tmp_path / "index"


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A build of `SNOW` that was interrupted after two of three shards."""
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "index", SNOW, Interrupted())
    return tmp_path / "index"
