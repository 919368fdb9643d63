from __future__ import annotations

from pathlib import Path

from ragx.evaluation.bootstrap import Estimate
from ragx.evaluation.tables import Table

TABLE = Table({"reader": 0, "k": 0, "EM": 1}, [["a|b\x1b", 10, Estimate(1.26, 0.5, 2)], ["c", 5, None]], ["A note."])


def test_markdown() -> None:
    assert TABLE.markdown() == (
        "| reader | k | EM |\n| --- | ---: | ---: |\n| a\\|b\ufffd | 10 | 1.3 (0.5–2.0) |\n| c | 5 | – |\n\nA note."
    )


def test_decimals_of_rows() -> None:
    rows = [["EM", Estimate(1.26, 0.5, 2)], ["seconds", Estimate(0.126, 0, 1)]]
    table = Table({"measure": 0, "value": 0}, rows, row_decimals=[1, 2])
    assert table.markdown().splitlines()[2:] == ["| EM | 1.3 (0.5–2.0) |", "| seconds | 0.13 (0.00–1.00) |"]
    assert "seconds & 0.13" in table.latex()


def test_plain_values() -> None:
    assert TABLE.values() == {
        "rows": [
            {"reader": "a|b\x1b", "k": 10, "EM": {"value": 1.26, "low": 0.5, "high": 2}},
            {"reader": "c", "k": 5, "EM": None},
        ],
        "notes": ["A note."],
    }


def test_comma_separated_values() -> None:
    assert TABLE.csv() == "reader,k,EM,EM low,EM high\na|b\x1b,10,1.26,0.5,2\nc,5,,,\n"


def test_latex() -> None:
    table = Table({"reader_x": 0, "EM %": 1}, [["50 % \\ $x^2$ {~}#&", Estimate(1.26, 0.5, 2)], ["c", None]])
    assert table.latex().splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"reader\_x & EM \% \\",
        r"\midrule",
        r"50 \% \textbackslash{} \$x\textasciicircum{}2\$ \{\textasciitilde{}\}\#\& & 1.3 \\",
        r"c & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_saved_table_replaces_the_one_before(tmp_path: Path) -> None:
    for table in (Table({"reader": 0}, []), TABLE):
        table.save(tmp_path / "new" / "table7")
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == {
        "table7.md": TABLE.markdown() + "\n",
        "table7.csv": TABLE.csv(),
        "table7.tex": TABLE.latex(),
    }
