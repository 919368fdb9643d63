"""A passage that copies the text is recognised by its longest run of common words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ragx.retrieval.repeats import RUN, repeats


@given(st.lists(st.integers(0, 999), min_size=60, max_size=60, unique=True), st.integers(0, 46), st.integers(1, 30))
def test_a_copy_has_a_long_run_of_the_texts_words(words: list[int], start: int, length: int) -> None:
    text = " ".join(f"w{word}" for word in words)
    copied = [f"W{word}" for word in words[start : start + length]]
    assert repeats("\n".join(copied), text), "whatever its case and white space"
    assert repeats(" ".join(["x", *copied, "y"]), text) == (len(copied) >= RUN)
