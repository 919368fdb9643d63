"""LangChain's standard suite for retrievers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests

from ragx.langchain import RagxRetriever


class TestRagxRetrieverStandard(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _index(self, built_index: Path) -> None:
        self.index = built_index

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return RagxRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": self.index}

    @property
    def retriever_query_example(self) -> str:
        return "How much sunlight does snow reflect?"
