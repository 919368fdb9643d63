"""Tests of retrieval compile models into a folder of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ragx.util.folders import cache_home


@pytest.fixture(scope="package", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Downloaded models stay where they are."""
    home = tmp_path_factory.mktemp("cache")
    (home / "models").symlink_to(cache_home() / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGX_HOME", str(home))
        yield
