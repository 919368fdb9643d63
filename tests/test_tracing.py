"""OpenTelemetry spans of a question's parts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ragx.config import IndexSettings
from ragx.indexing.build import build
from ragx.rag import RAG
from ragx.util import tracing

QUESTION = "How much sunlight does fresh snow reflect?"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """Where this process's spans go; it can be set up once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def rag(tmp_path: Path, tiny_decoder: Path) -> Iterator[RAG]:
    (tmp_path / "snow.txt").write_text("Fresh snow reflects up to 90 percent of the sunlight.\n", encoding="utf-8")
    build([str(tmp_path / "snow.txt")], tmp_path / "index", IndexSettings())
    with RAG.from_index(tmp_path / "index", model=str(tiny_decoder), method="bm25", rerank="none") as rag:
        yield rag


def test_the_parts_of_a_question_are_logged(rag: RAG, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "ragx"):
        rag.ask(QUESTION, k=1)
    logged = [record.getMessage() for record in caplog.records if record.name == "ragx"]
    assert [line.partition(":")[0] for line in logged] == ["retrieve", "encode", "prefill", "decode", "ask"]
    assert all(re.match(r"\w+: \d+\.\d{3} s", line) for line in logged)
    assert ", passages 1, " in logged[1]


def test_a_question_is_a_span_with_its_parts_inside(rag: RAG, exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    answer = rag.ask(QUESTION, k=1)
    spans = {each.name: each for each in exporter.get_finished_spans()}
    assert spans.keys() == {"ragx.ask", "ragx.retrieve", "ragx.encode", "ragx.prefill", "ragx.decode"}
    whole = spans.pop("ragx.ask")
    assert whole.start_time is not None
    assert whole.end_time is not None
    for part in spans.values():
        assert part.parent is not None
        assert part.parent.span_id == whole.context.span_id
        assert part.start_time is not None
        assert part.end_time is not None
        assert whole.start_time - 10**6 <= part.start_time <= part.end_time <= whole.end_time + 10**6  # two clocks
    assert dict(spans["ragx.decode"].attributes or {}) == {
        "answer_tokens": answer.answer_tokens,
        "finish": answer.finish,
    }


def test_an_exception_is_recorded(exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    with pytest.raises(ValueError, match="too wet"), tracing.span("ragx.test"):
        raise ValueError("too wet")
    (failed,) = exporter.get_finished_spans()
    assert not failed.status.is_ok


def test_without_opentelemetry_nothing_is_imported() -> None:
    probe = (
        "import sys; from ragx.util.tracing import span\nwith span('ragx.test'): print('opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
