"""LangChain's standard suite for vector stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from ragx.langchain import RagxVectorStore


class TestRagxVectorStoreStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> VectorStore:  # type: ignore[override]
        return RagxVectorStore(tmp_path / "index", self.get_embeddings())
