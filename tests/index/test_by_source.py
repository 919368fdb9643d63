"""BySource finds the passages of a file wherever their rows are."""

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
    """A passage of one of three files, which have two documents of two passages each."""
    document = f"{number % 3}-{number // 3 % 2}"
    position = number // 6
    return Passage(f"{document}#{position}", document, "", text, position, 0, 4, f"/notes/{number % 3}")


NUMBERS = st.sets(st.integers(0, 11))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_sources_have_their_passages_after_any_updates(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[set[int], set[int]]]
) -> None:
    folder: Path = tmp_path_factory.mktemp("index")
    expected = {each.id: each for each in (passage(number, "snow") for number in range(8))}
    build_index(expected.values(), folder, WordEmbedder(), IndexSettings(shard_size=3), quiet=True)
    for change, (added, deleted) in enumerate(changes):
        new = [passage(number, f"rain {change}") for number in added]
        ids = {passage(number, "").id for number in deleted}
        update_index(folder, WordEmbedder(), add=new, delete=ids, quiet=True)
        expected = {id: each for id, each in expected.items() if id not in ids} | {each.id: each for each in new}
    by_source = BySource(Index.open(folder))
    for source in ("/notes/0", "/notes/1", "/notes/2", "/notes/3"):
        passages = list(by_source.passages(source))
        assert {each.id: each for each in passages} == {id: e for id, e in expected.items() if e.source == source}
        documents = [document for document, _ in groupby(each.document for each in passages)]
        assert len(documents) == len(set(documents))
        for _, group in groupby(passages, lambda each: each.document):
            positions = [each.position for each in group]
            assert positions == sorted(positions)
