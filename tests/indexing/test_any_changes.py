"""After any changes to files, an update gives the same passages as a rebuild."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.errors import RagxError
from ragx.index import Index, compact_index
from ragx.index.manifest import SOURCES
from ragx.indexing.build import build
from ragx.indexing.delete import delete
from ragx.indexing.update import update
from tests.helpers.notes import TWO_WORDS, generation, index_notes, passages_in, record, rows, write

NAMES = ["a.txt", "b.txt", "deep/c.txt", "d.jsonl", "e.jsonl"]
TEXTS = ["Blue sea.", "Blue  sea. Dark soil.", "Fresh snow", "…", "", None]
Edits = list[tuple[str, list[int] | None]]
"""Files and the numbers of their new texts; None: the file is deleted."""
EDITS = st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.lists(st.integers(0, 5), max_size=3)), max_size=3)


def edit(folder: Path, edits: Edits) -> None:
    for name, numbers in edits:
        if numbers is None:
            (folder / name).unlink(missing_ok=True)
        elif name.endswith(".jsonl"):
            write(folder, {name: rows(*((str(number % 3), TEXTS[number]) for number in numbers))})
        else:
            write(folder, {name: "\n".join(TEXTS[number] or "" for number in numbers)})


def delete_with_its_file(folder: Path) -> None:
    """Delete a document, which a build would bring back if its file stayed."""
    for _, document, source in Index.open(folder).entries():
        if document != "z.txt":
            delete(folder, [document])
            Path(source).unlink(missing_ok=True)
            return


UPKEEP: dict[str, Callable[[Path], object]] = {
    "nothing": lambda folder: None,
    "compact": lambda folder: compact_index(folder, quiet=True),
    "delete": delete_with_its_file,
    "forget": lambda folder: record(folder, None),
}


@given(st.lists(st.tuples(EDITS, st.sampled_from(sorted(UPKEEP))), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_an_update_after_any_edits_equals_a_build(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[Edits, str]]
) -> None:
    """The records of the files are equal too."""
    base = tmp_path_factory.mktemp("edits")
    corpus, rebuilt = base / "notes", base / "rebuilt"
    write(corpus, {"z.txt": "Always there"})
    folder = index_notes(corpus, base / "index")
    for edits, upkeep in rounds:
        edit(corpus, edits)
        UPKEEP[upkeep](folder)
        skipped = [sorted(map(str, report.skipped)) for report in (update(folder), build([corpus], rebuilt, TWO_WORDS))]
        assert skipped[0] == skipped[1]
        assert passages_in(folder) == passages_in(rebuilt)
        assert (generation(folder) / SOURCES).read_bytes() == (generation(rebuilt) / SOURCES).read_bytes()
        now = generation(folder)
        update(folder)
        assert generation(folder) == now


PLACES = [[], ["more"], ["notes", "more"], ["more/a.txt"], ["."]]
STEP = st.tuples(EDITS, EDITS, st.booleans(), st.sampled_from(PLACES), st.booleans())


@given(st.lists(STEP, min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_reusing_files_gives_the_same_index_as_parsing_all(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[Edits, Edits, bool, list[str], bool]],
) -> None:
    """With several folders, with and without `keep`, and with a file that is unreadable for a while."""
    base = tmp_path_factory.mktemp("places")
    write(base / "notes", {"z.txt": "Always there"})
    write(base / "more", {"a.txt": "Dark soil."})
    twins = [index_notes(base / "notes", base.with_name(f"{base.name}-{n}")) for n in range(2)]
    for notes, more, unreadable, places, keep in steps:
        edit(base / "notes", notes)
        edit(base / "more", more)
        (base / "notes" / "0.txt").unlink(missing_ok=True)
        (base / "notes" / "0.txt").symlink_to("absent" if unreadable else "z.txt")
        record(twins[1], None)
        outcomes = []
        for folder in twins:
            try:
                report = update(folder, [base / place for place in places], keep=keep)
                outcomes.append([report.added, report.deleted, *sorted(map(str, report.skipped))])
            except RagxError as error:
                outcomes.append([str(error).replace(str(folder), "")])
        assert outcomes[0] == outcomes[1]
        assert passages_in(twins[0]) == passages_in(twins[1])
