"""RagxLLM: a question in, an answer out, as a LangChain LLM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LLM
from langchain_core.language_models.base import LangSmithParams
from langchain_core.outputs import GenerationChunk
from pydantic import ConfigDict

from ragx.langchain.answering import Answering
from ragx.reader.conversation import question_text
from ragx.types import Answer


class RagxLLM(Answering, LLM):
    """Answers the prompt, which is the question, from passages; settings are those of `Answering`.

    >>> RagxLLM(index="my-index").invoke("When did we sign the lease?")
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @property
    def _llm_type(self) -> str:
        return "ragx"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop=self.stop if stop is None else stop, **kwargs)

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        return "".join(chunk.text for chunk in self._stream(prompt, stop, run_manager, **kwargs))

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        question = question_text(prompt)
        documents = self._documents([question], kwargs)
        for piece in self._answer(question, documents, stop, kwargs):
            if isinstance(piece, str):
                yield GenerationChunk(text=piece)
            else:
                yield GenerationChunk(text="", generation_info=_outcome(piece, kwargs.get("model", self.model)))

    async def _acall(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        documents = await self._adocuments([question_text(prompt)], kwargs)
        return await super()._acall(prompt, stop, run_manager, documents=documents, **kwargs)

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        documents = await self._adocuments([question_text(prompt)], kwargs)
        async for chunk in super()._astream(prompt, stop, run_manager, documents=documents, **kwargs):
            yield chunk


def _outcome(answer: Answer, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "citations": [asdict(citation) for citation in answer.citations],
        "notes": answer.notes,
        "input_tokens": answer.prompt_tokens,
        "output_tokens": answer.answer_tokens,
        "context_tokens": answer.context_tokens,
    }
