"""The response as JSON, whole or as the events of a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from ragx.types import Answer
from ragx_apps.server.errors import ApiError
from ragx_apps.server.responses import ragx_part
from ragx_apps.server.responses_api.request import ResponseRequest


class Response:
    """One response, which grows as its answer is decoded."""

    def __init__(self, request: ResponseRequest) -> None:
        self.request = request
        self.id, self.message_id = f"resp_{uuid.uuid4().hex}", f"msg_{uuid.uuid4().hex}"
        self.created_at = int(time.time())
        self._number = 0

    def whole(self, answer: Answer | None = None, error: ApiError | None = None) -> dict[str, Any]:
        """The response; without an answer it is in progress, or failed with an error."""
        is_cut = answer is not None and answer.finish == "length"
        status = "failed" if error else "in_progress" if answer is None else "incomplete" if is_cut else "completed"
        request = self.request
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "error": {"code": error.code or "server_error", "message": str(error)} if error else None,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata or {},
            "model": request.model,
            "output": [] if answer is None else [self._message(answer.text, "incomplete" if is_cut else "completed")],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": request.sampling().temperature,
            "text": {"format": self._format()},
            "tool_choice": "none",
            "tools": [],
            "top_p": request.sampling().top_p,
            "truncation": "disabled",
            "usage": None if answer is None else _usage(answer),
            **({"ragx": ragx_part(answer).model_dump()} if answer else {}),
        }

    def begin(self) -> Iterator[str]:
        """The events before any text."""
        yield self._event("response.created", response=self.whole())
        yield self._event("response.in_progress", response=self.whole())
        message = {**self._message("", "in_progress"), "content": []}
        yield self._event("response.output_item.added", output_index=0, item=message)
        yield self._event("response.content_part.added", **self._place(), part=_part(""))

    def of(self, event: str | Answer) -> Iterator[str]:
        """The events of a piece of text, or those after the last one."""
        if isinstance(event, str):
            yield self._event("response.output_text.delta", **self._place(), delta=event, logprobs=[])
            return
        whole = self.whole(event)
        yield self._event("response.output_text.done", **self._place(), text=event.text, logprobs=[])
        yield self._event("response.content_part.done", **self._place(), part=_part(event.text))
        yield self._event("response.output_item.done", output_index=0, item=whole["output"][0])
        yield self._event(f"response.{whole['status']}", response=whole)

    def failed(self, error: ApiError) -> str:
        """The event that ends a stream early."""
        return self._event("response.failed", response=self.whole(error=error))

    def _message(self, text: str, status: str) -> dict[str, Any]:
        content = [_part(text)]
        return {"id": self.message_id, "type": "message", "role": "assistant", "status": status, "content": content}

    def _format(self) -> dict[str, Any]:
        format = self.request.text.format if self.request.text else None
        return format.model_dump(by_alias=True) if format else {"type": "text"}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.message_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> str:
        data = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answer.answer_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.prompt_tokens + answer.answer_tokens,
    }
