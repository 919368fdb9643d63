"""Properties of OpenDocument files."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ragx.corpus.extract.office.package import child, local, useful_title


def properties(root: Any) -> tuple[str, dict[str, object]]:
    """The title, empty if it says nothing, and the metadata. `root`: of the part `meta.xml`, or None."""
    fields: dict[str, list[str]] = defaultdict(list)
    found = None if root is None else child(root, "meta")
    for field in () if found is None else found:
        if value := " ".join((field.text or "").split()):
            fields[local(field)].append(value)
    author = fields["initial-creator"] or fields["creator"]
    metadata = {"author": author, "subject": fields["subject"], "keywords": fields["keyword"]}
    title = useful_title("".join(fields["title"][:1]))
    return title, {key: ", ".join(values) for key, values in metadata.items() if values}
