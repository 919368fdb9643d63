"""New passages by id, like a dictionary that may be larger than the memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.errors import IndexFolderError
from ragx.index.changes import Changes
from ragx.types import Passage
from tests.helpers.toy_embedders import passage, passages

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.text(st.characters(), max_size=3)))


@given(STEPS)
def test_it_behaves_like_a_dictionary(steps: list[tuple[bool, int, str]]) -> None:
    changes, expected = Changes(), dict[str, Passage]()
    for is_put, number, text in steps:
        if is_put:
            changes.put(passage(number, text))
            expected[f"doc{number}#0"] = passage(number, text)
        else:
            changes.discard(f"doc{number}#0")
            expected.pop(f"doc{number}#0", None)
    assert [*changes] == [*expected.values()]
    assert len(changes) == len(expected)


def test_all_fields_are_kept() -> None:
    full = Passage("a#1", "a", "title", "text\n\ud800", 1, 2, 3, "/a", '{"n": 1}', "heading", 7)
    changes = Changes()
    changes.put(full)
    assert [*changes] == [full]


def test_a_full_disk_is_one_line_that_says_where_to_make_room() -> None:
    changes = Changes(cached_kib=8)
    changes._database.execute("PRAGMA max_page_count = 8")  # SQLite then says what it says of a full disk
    with pytest.raises(IndexFolderError, match="TMPDIR"):
        [changes.put(each) for each in passages(["snow " * 100] * 1000)]
