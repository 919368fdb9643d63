"""A set that may be larger than the memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.corpus.seen import Seen
from ragx.errors import CorpusError


@given(st.lists(st.text(st.characters(), max_size=3)))
def test_it_behaves_like_a_set(keys: list[str]) -> None:
    seen, expected = Seen(), set[str]()
    for key in keys:
        assert (key in seen) == (key in expected)
        assert seen.add(key) == (key not in expected)
        expected.add(key)


def test_a_full_disk_is_one_line_that_says_where_to_make_room() -> None:
    seen = Seen(cached_kib=8)
    seen._database.execute("PRAGMA max_page_count = 8")  # SQLite then says what it says of a full disk
    with pytest.raises(CorpusError, match="TMPDIR"):
        sum(seen.add(str(number)) for number in range(10_000))
