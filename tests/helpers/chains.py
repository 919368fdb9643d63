"""A LangChain chain around either model of ragx."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import Runnable

from ragx.langchain import ChatRagx, RagxLLM

EITHER = pytest.mark.parametrize("kind", [RagxLLM, ChatRagx])


def chain(model: BaseLanguageModel[Any]) -> Runnable[dict[str, str], str]:
    prompt: Any = (
        ChatPromptTemplate([("human", "{q}?")]) if isinstance(model, ChatRagx) else PromptTemplate.from_template("{q}?")
    )
    return prompt | model | StrOutputParser()
