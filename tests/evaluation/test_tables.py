from __future__ import annotations

from ragx.evaluation.bootstrap import Estimate
from ragx.evaluation.tables import Table

TABLE = Table({"reader": 0, "k": 0, "EM": 1}, [["a|b\x1b", 10, Estimate(1.26, 0.5, 2)], ["c", 5, None]], ["A note."])


def test_markdown() -> None:
    assert TABLE.markdown() == (
        "| reader | k | EM |\n| --- | ---: | ---: |\n| a\\|b\ufffd | 10 | 1.3 (0.5–2.0) |\n| c | 5 | – |\n\nA note."
    )


def test_plain_values() -> None:
    assert TABLE.values() == {
        "rows": [
            {"reader": "a|b\x1b", "k": 10, "EM": {"value": 1.26, "low": 0.5, "high": 2}},
            {"reader": "c", "k": 5, "EM": None},
        ],
        "notes": ["A note."],
    }
