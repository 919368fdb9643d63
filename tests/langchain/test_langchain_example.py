"""The examples that the README points to run as they are written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "apps" / "examples"
CITED = "[1] Snow: Fresh snow reflects up to 90 percent of the sunlight that reaches it."


def output_of(example: str) -> list[str]:
    """The lines that an example prints."""
    done = subprocess.run([sys.executable, EXAMPLES / example], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_chain_answers_cites_and_reads_what_is_bound() -> None:
    answer, *rest = output_of("langchain_chain.py")
    assert "90 percent" in answer
    assert CITED in rest
    assert "sunlight" in rest[-1]


@pytest.mark.parametrize(
    ("example", "package"), [("qdrant_store.py", "langchain_qdrant"), ("lancedb_store.py", "lancedb")]
)
def test_another_store_serves_the_passages(example: str, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not among ragx's packages: the README says how to install it")
    answer, *citations = output_of(example)
    assert "90 percent" in answer
    assert CITED in citations
