"""LangChain's standard suites for chat models, on a tiny random model and on the default one, which some calls name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from ragx.langchain import ChatRagx
from ragx.rag import DEFAULT_MODEL


class TestChatRagxUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatRagx

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"RAGX_INDEX": "notes/index"}, {}, {"_folder": "notes/index"}


class TestChatRagxIntegration(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _folders(self, built_index: Path, tiny_decoder: Path) -> None:
        self.index, self.tiny = built_index, tiny_decoder

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatRagx

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"index": self.index, "model": str(self.tiny), "k": 2, "prompt_passages": 1, "max_tokens": 12}

    @property
    def model_override_value(self) -> str:
        return DEFAULT_MODEL
