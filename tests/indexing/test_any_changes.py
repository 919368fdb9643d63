"""After any changes to files an update gives the very passages that reading all of them anew gives."""

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
from ragx.indexing.update import delete, update
from tests.helpers.notes import TWO_WORDS, built, generation, held, record, rows, write

NAMES = ["a.txt", "b.txt", "deep/c.txt", "d.jsonl", "e.jsonl"]
TEXTS = ["Blue sea.", "Blue  sea. Dark soil.", "Fresh snow", "…", "", None]
Edits = list[tuple[str, list[int] | None]]
"""Files and the numbers of the texts that they then hold; None: the file is deleted."""
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
def test_after_any_edits_an_update_gives_what_a_build_gives(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[Edits, str]]
) -> None:
    """And keeps the same record of the files."""
    base = tmp_path_factory.mktemp("edits")
    corpus, anew = base / "notes", base / "anew"
    write(corpus, {"z.txt": "Always there"})
    folder = built(corpus, base / "index")
    for edits, upkeep in rounds:
        edit(corpus, edits)
        UPKEEP[upkeep](folder)
        told = [sorted(map(str, report.skipped)) for report in (update(folder), build([corpus], anew, TWO_WORDS))]
        assert told[0] == told[1]
        assert held(folder) == held(anew)
        assert (generation(folder) / SOURCES).read_bytes() == (generation(anew) / SOURCES).read_bytes()
        now = generation(folder)
        update(folder)
        assert generation(folder) == now


PLACES = [[], ["more"], ["notes", "more"], ["more/a.txt"], ["."]]
STEP = st.tuples(EDITS, EDITS, st.booleans(), st.sampled_from(PLACES), st.booleans())


@given(st.lists(STEP, min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_after_any_updates_an_index_is_as_one_that_parses_every_file(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[Edits, Edits, bool, list[str], bool]],
) -> None:
    """Of several places, with `keep` and without, and with a file that cannot be read for a while."""
    base = tmp_path_factory.mktemp("places")
    write(base / "notes", {"z.txt": "Always there"})
    write(base / "more", {"a.txt": "Dark soil."})
    twins = [built(base / "notes", base.with_name(f"{base.name}-{n}")) for n in range(2)]
    for notes, more, unreadable, places, keep in steps:
        edit(base / "notes", notes)
        edit(base / "more", more)
        (base / "notes" / "0.txt").unlink(missing_ok=True)
        (base / "notes" / "0.txt").symlink_to("absent" if unreadable else "z.txt")
        record(twins[1], None)
        said = []
        for folder in twins:
            try:
                report = update(folder, [base / place for place in places], keep=keep)
                said.append([report.added, report.deleted, *sorted(map(str, report.skipped))])
            except RagxError as error:
                said.append([str(error).replace(str(folder), "")])
        assert said[0] == said[1]
        assert held(twins[0]) == held(twins[1])
