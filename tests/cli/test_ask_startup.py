"""What a question costs before it is answered, on a machine without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ragx.config import IndexSettings
from ragx.indexing.build import build
from ragx.rag import RAG

pytestmark = pytest.mark.slow

HEAVY = {"torch", "transformers", "sentence_transformers", "sklearn", "scipy", "pandas", "onnx", "datasets"}
SCRIPT = """
import json, sys, time
from ragx.config import ModelOptions
from ragx.rag import RAG
from ragx.retrieval import open_index
from ragx.reader.loading import open_readers
with RAG(open_index(sys.argv[1], device="cpu"), open_readers(ModelOptions(device="cpu"))[0]) as rag:
    ready = time.process_time()
    answer = rag.ask("How much sunlight does fresh snow reflect?")
print(json.dumps({"ready": ready, "text": answer.text, "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    notes, folder = tmp_path_factory.mktemp("notes"), tmp_path_factory.mktemp("index")
    (notes / "snow.txt").write_text("Fresh snow reflects 90 percent of the sunlight.", encoding="utf-8")
    build([str(notes)], folder, IndexSettings())
    return folder


def ask(index: Path) -> dict[str, object]:
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(index)], capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(run.stdout.splitlines()[-1])
    return answer


def test_a_question_needs_none_of_the_heavy_packages(index: Path) -> None:
    ask(index)  # compiles the models, unless they are
    answer = ask(index)
    assert answer["text"]
    assert not HEAVY & {name for name in answer["modules"] if "." not in name}  # type: ignore[attr-defined]


def test_a_frugal_rag_answers_question_after_question(index: Path) -> None:
    questions = ["How much sunlight does fresh snow reflect?", "What reflects sunlight?"]
    answers = []
    for frugal in (False, True):
        with RAG.from_index(index, device="cpu", frugal=frugal) as rag:
            answers.append([rag.ask(question).text for question in questions])
    assert answers[0] == answers[1]


def test_starting_takes_a_small_multiple_of_importing_numpy(index: Path) -> None:
    ask(index)
    ready = min(float(ask(index)["ready"]) for _ in range(3))  # type: ignore[arg-type]
    assert ready < 40 * min(cpu_seconds("import numpy") for _ in range(3))  # with torch and transformers: over 100


def cpu_seconds(code: str) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
