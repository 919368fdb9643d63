"""Chat models that decode elsewhere, such as behind an API: messages in, text out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from ragx.config import SamplingParams
from ragx.engine.decoding import stop_prefix
from ragx.errors import EndpointError
from ragx.types import Finish, Message, TokenLogprob

BEAT = 0.1
"""Seconds between two looks at whether the answer has been cancelled."""


@dataclass(frozen=True)
class ChatEnd:
    """How a chat model's answer ended; counts of tokens where the model tells them."""

    finish: Finish = "stop"
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


class ChatModel(Protocol):
    """A model that reads messages. Its coroutines run in one event loop."""

    name: str
    """For messages to the user."""
    window: int | None
    """Maximum number of tokens of messages and answer; None: unknown."""

    def stream(self, messages: Sequence[Message], sampling: SamplingParams) -> AsyncGenerator[str | ChatEnd, None]:
        """Pieces of the answer, some of them empty, then how it ended. Closing the generator ends the answer."""

    async def close(self) -> None:
        """Close connections."""


class ChatLoop:
    """The event loop of one chat model, in a thread of its own, for streams in any thread."""

    def __init__(self, model: ChatModel, timeout: float) -> None:
        """`timeout`: seconds that the model may stay silent."""
        self.model, self.timeout = model, timeout
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ragx-chat-model", daemon=True)
        self._thread.start()

    def stream(self, messages: Sequence[Message], sampling: SamplingParams, cancel: threading.Event) -> ChatStream:
        """Begin an answer."""
        events: Events = SimpleQueue()
        pump = self._pump(self.model.stream(messages, sampling), events)
        future = asyncio.run_coroutine_threadsafe(pump, self._loop)
        return ChatStream(events, future.cancel, sampling, cancel)

    def close(self) -> None:
        """End every answer where it is, and the thread."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _pump(self, pieces: AsyncGenerator[str | ChatEnd, None], events: Events) -> None:
        try:
            async with asyncio.timeout(self.timeout) as silence, aclosing(pieces):
                async for piece in pieces:
                    silence.reschedule(self._loop.time() + self.timeout)
                    events.put(piece)
        except TimeoutError:
            events.put(EndpointError(f"{self.model.name} was silent for {self.timeout:g} s: raise --timeout"))
        except Exception as error:  # raised in the caller
            events.put(error)
        finally:
            events.put(None)

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.model.close()


Events = SimpleQueue[str | ChatEnd | Exception | None]
"""None is the last one."""


class ChatStream(Iterator[str]):
    """The text of an answer up to its end or a stop string, whether or not the model knows stop strings.

    A piece is empty while what may be a stop string is incomplete.
    """

    def __init__(
        self, events: Events, abandon: Callable[[], object], sampling: SamplingParams, cancel: threading.Event
    ) -> None:
        """`abandon` ends the answer; setting `cancel` does so too."""
        self.tokens = 0
        """Number of tokens, as the model counts them, or of pieces so far."""
        self.prompt_tokens: int | None = None
        """As the model counts them; None if it does not tell."""
        self.finish: Finish = "cancelled"
        """Why the answer ended."""
        self.logprobs: list[TokenLogprob] | None = None
        """None: models elsewhere are not asked for them."""
        self._events, self._abandon, self._stops, self._cancel = events, abandon, sampling.stop, cancel
        self._pending = ""
        self._finished = False

    def __next__(self) -> str:
        while not self._finished:
            try:
                event = self._events.get(timeout=BEAT)
            except Empty:
                event = ""
            if self._cancel.is_set():
                self.close()
            elif isinstance(event, Exception):
                self._finished = True
                raise event
            elif event is None:
                self._finished = True
                return self._pending
            elif isinstance(event, ChatEnd):
                self.finish, self.prompt_tokens = event.finish, event.prompt_tokens
                self.tokens = self.tokens if event.answer_tokens is None else event.answer_tokens
            elif event:
                self.tokens += 1
                return self._ready(event)
        raise StopIteration

    def close(self) -> None:
        """End the answer."""
        self._finished = True
        self._abandon()

    def _ready(self, text: str) -> str:
        self._pending += text
        end = min((at for stop in self._stops if (at := self._pending.find(stop)) >= 0), default=None)
        if end is not None:
            self.close()
            self.finish = "stop"
            return self._pending[:end]
        ready = len(self._pending) - stop_prefix(self._pending, self._stops)
        piece, self._pending = self._pending[:ready], self._pending[ready:]
        return piece
