"""The snippets of docs/adapters.md run as they are written, on a small model and a small task."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from tests.helpers.tiny import save_tiny_reader

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_the_model_of_the_lm_evaluation_harness(
    tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval", reason="docs/adapters.md says how to install lm_eval")
    reader = save_tiny_reader(tmp_path / "reader", tiny_decoder)
    rows = [{"question": f"What is {word}?", "choices": ["snow", "soil"], "label": 0} for word in ("white", "dark")]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (snippet,) = [each for each in SNIPPETS if "lm_eval" in each]
    exec(snippet.replace("ceped-smollm2-135m", str(reader)).replace("1024", "128"), {})  # noqa: S102
    assert "'acc,none'" in capsys.readouterr().out


def test_the_search_of_mteb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mteb", reason="MTEB needs `pip install 'ragx[mteb]'`, of 270 MB")
    from tests.evaluation.test_mteb_search import SnowRetrieval

    monkeypatch.setattr("mteb.get_task", lambda name: SnowRetrieval())
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path))
    (snippet,) = [each for each in SNIPPETS if "mteb" in each]
    exec(snippet, {})  # noqa: S102
    assert capsys.readouterr().out == "1.0\n"


@pytest.mark.parametrize(
    ("package", "module", "message"),
    [("lm_eval", "lm_harness", "docs/adapters.md"), ("mteb", "mteb_search", r"pip install 'ragx\[mteb\]'")],
)
def test_a_missing_package_is_named(package: str, module: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"ragx.evaluation.{module}", raising=False)
    with pytest.raises(ImportError, match=message):
        importlib.import_module(f"ragx.evaluation.{module}")
