"""LangChain's standard suites; that for chat models also runs on the default one, which some calls name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests

from ragx.langchain import ChatRagx, RagxEmbeddings, RagxRetriever, RagxVectorStore
from ragx.rag import DEFAULT_MODEL


class ChatSuite:
    """ChatRagx calls no tools and follows no schema."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatRagx

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False


class TestChatRagxUnit(ChatSuite, ChatModelUnitTests):
    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"RAGX_INDEX": "notes/index"}, {}, {"_folder": "notes/index"}


class TestChatRagxIntegration(ChatSuite, ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _folders(self, built_index: Path, tiny_decoder: Path) -> None:
        self.index, self.tiny = built_index, tiny_decoder

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"index": self.index, "model": str(self.tiny), "k": 2, "prompt_passages": 1, "max_tokens": 12}

    @property
    def model_override_value(self) -> str:
        return DEFAULT_MODEL


class TestRagxEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RagxEmbeddings


class TestRagxEmbeddingsIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RagxEmbeddings


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


class TestRagxVectorStoreStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> VectorStore:  # type: ignore[override]
        return RagxVectorStore(tmp_path / "index", self.get_embeddings())
