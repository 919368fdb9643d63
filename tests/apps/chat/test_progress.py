"""What the page says before the first word of an answer."""

from __future__ import annotations

from ragx_apps.chat.progress import Progress

from ragx.types import Hit, Passage


def test_the_line_follows_search_encoding_and_reading() -> None:
    progress = Progress("notes")
    assert "Searching “notes”" in progress.line
    progress.found([Hit(Passage(f"d#{n}", "d", "T", "snow", n, 0, 4, "d.txt"), 1.0) for n in range(3)])
    assert "Reading 3 passages" in progress.line
    progress.encoded(1, 2)
    assert "1 of 2" in progress.line
    progress.encoded(2, 2)
    assert "Reading 3 passages" in progress.line
    progress.found([])  # the other reader finds nothing
    assert "Searching" in progress.line
