"""BySource: what an index holds of a file, wherever its rows are."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.index import Index, build_index, update_index
from ragx.index.by_source import BySource
from ragx.types import Passage
from tests.helpers.toy_embedders import WordEmbedder


def passage(number: int, text: str) -> Passage:
    """Of one of three files, with two documents of two passages each."""
    document = f"{number % 3}-{number // 3 % 2}"
    position = number // 6
    return Passage(f"{document}#{position}", document, "", text, position, 0, 4, f"/notes/{number % 3}")


NUMBERS = st.sets(st.integers(0, 11))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_after_any_updates_every_source_has_its_passages_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[set[int], set[int]]]
) -> None:
    folder: Path = tmp_path_factory.mktemp("index")
    expected = {each.id: each for each in (passage(number, "snow") for number in range(8))}
    build_index(expected.values(), folder, WordEmbedder(), IndexSettings(shard_size=3), quiet=True)
    for change, (added, deleted) in enumerate(changes):
        new = [passage(number, f"rain {change}") for number in added]
        gone = {passage(number, "").id for number in deleted}
        update_index(folder, WordEmbedder(), add=new, delete=gone, quiet=True)
        expected = {id: each for id, each in expected.items() if id not in gone} | {each.id: each for each in new}
    by_source = BySource(Index.open(folder))
    for source in ("/notes/0", "/notes/1", "/notes/2", "/notes/3"):
        found = list(by_source.passages(source))
        assert {each.id: each for each in found} == {id: e for id, e in expected.items() if e.source == source}
        documents = [document for document, _ in groupby(each.document for each in found)]
        assert len(documents) == len(set(documents))
        for _, passages in groupby(found, lambda each: each.document):
            positions = [each.position for each in passages]
            assert positions == sorted(positions)
