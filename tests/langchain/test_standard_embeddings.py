"""LangChain's standard suites for embeddings, and text that is not Unicode."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from ragx.langchain import RagxEmbeddings


class TestRagxEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RagxEmbeddings


class TestRagxEmbeddingsIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RagxEmbeddings


def test_text_that_is_not_unicode_is_embedded_as_what_it_can_be() -> None:
    embeddings = RagxEmbeddings()
    assert embeddings.embed_query("\ud800 x") == embeddings.embed_query("\ufffd x")
    assert embeddings.embed_documents(["\ud800 x"]) == embeddings.embed_documents(["\ufffd x"])
