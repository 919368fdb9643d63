"""Tests of retrieval compile models into a folder of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ragx.util.folders import cache_home


@pytest.fixture(scope="session")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for these tests; downloaded models stay where they are."""
    home = tmp_path_factory.mktemp("cache")
    (home / "models").symlink_to(cache_home() / "models")
    return home


@pytest.fixture(scope="module", autouse=True)
def cache(own_home: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGX_HOME", str(own_home))
        yield
