from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.documents import Document
from transformers import AutoModelForCausalLM

from ragx.config import IndexSettings
from ragx.index import build_index
from ragx.langchain import RagxEmbeddings
from ragx.types import Passage

FACTS = {
    "Snow": "Fresh snow reflects up to 90 percent of the sunlight that reaches it.",
    "Soil": "Dark soil absorbs most of the sunlight and warms up quickly.",
    "Sea": "The open sea looks blue because red light is absorbed in it.",
    "Sand": "Dry desert sand reflects about 40 percent of the sunlight.",
}


@pytest.fixture(scope="session")
def facts() -> list[Document]:
    return [Document(id=title, page_content=text, metadata={"title": title}) for title, text in FACTS.items()]


@pytest.fixture(scope="session")
def built_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four passages, as `ragx index build` makes an index of them."""
    folder = tmp_path_factory.mktemp("built-index")
    passages = [
        Passage(f"{title}.txt#0", f"{title}.txt", title, text, 0, 0, len(text), f"notes/{title}.txt")
        for title, text in FACTS.items()
    ]
    build_index(passages, folder, RagxEmbeddings().embedder, IndexSettings(), quiet=True)
    return folder


@pytest.fixture(scope="session")
def sensitive_decoder(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny decoder with larger random weights, so that other passages make it answer otherwise."""
    folder = tmp_path_factory.mktemp("sensitive") / "decoder"
    shutil.copytree(tiny_decoder, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny(built_index: Path, sensitive_decoder: Path) -> dict[str, Any]:
    """Settings of a random model, whose answers are gibberish that depends on its prompt."""
    return {
        "index": built_index,
        "model": str(sensitive_decoder),
        "k": 2,
        "prompt_passages": 2,
        "max_tokens": 16,
        "dtype": "float32",
    }
