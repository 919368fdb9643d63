"""A visitor's conversations, as the browser keeps them."""

from __future__ import annotations

import secrets
from typing import Any

from pydantic import ValidationError

from ragx_apps.chat.conversation import Kept, Turn

KEPT_CHATS, KEPT_TURNS, KEPT_BYTES = 50, 30, 3_000_000
"""Conversations, turns of each, and bytes of all: a browser stores about 5 MB a page, encoded. What was used longest
ago is dropped."""
NAME = 60
"""Characters of a conversation's name."""


class Chat(Kept):
    """A conversation."""

    id: str
    name: str
    turns: list[Turn]


class Chats(Kept):
    """All conversations, the last used first."""

    chats: tuple[Chat, ...] = ()
    open: str = ""
    """The id of the one on the page; empty: a new one."""

    @property
    def turns(self) -> list[Turn]:
        """Those of the open one."""
        return next((chat.turns for chat in self.chats if chat.id == self.open), [])

    @property
    def name(self) -> str:
        """That of the open one."""
        return next((chat.name for chat in self.chats if chat.id == self.open), "")

    def opened(self, id: str) -> Chats:
        """Another one is open, or a new one where there is none of this id."""
        return self.model_copy(update={"open": id if any(chat.id == id for chat in self.chats) else ""})

    def with_turns(self, turns: list[Turn]) -> Chats:
        """The open one has these turns; a new one is named by its first question."""
        name = self.name or " ".join(turns[0].question.split())
        chat = Chat(id=self.open or secrets.token_hex(8), name=name[:NAME], turns=turns)
        return Chats(chats=(chat, *self._others()), open=chat.id)

    def renamed(self, name: str) -> Chats:
        """The open one has another name, unless that is empty."""
        name = " ".join(name.split())[:NAME]
        chats = (chat.model_copy(update={"name": name}) if chat.id == self.open else chat for chat in self.chats)
        return Chats(chats=tuple(chats), open=self.open) if name else self

    def deleted(self) -> Chats:
        """Without the open one; a new one is open."""
        return Chats(chats=self._others())

    def _others(self) -> tuple[Chat, ...]:
        return tuple(chat for chat in self.chats if chat.id != self.open)


def load_chats(kept: Any) -> Chats:
    """The conversations that a browser stored; none if it stored something else."""
    try:
        return Chats.model_validate(kept)
    except ValidationError:
        return Chats()


def dump_chats(chats: Chats) -> dict[str, Any]:
    """As much as a browser can store, as JSON values; the last turn of the last used conversation in any case."""
    left = KEPT_BYTES
    kept: list[Chat] = []
    for chat in chats.chats[:KEPT_CHATS]:
        turns: list[Turn] = []
        for turn in reversed(chat.turns[-KEPT_TURNS:]):
            left -= _size(turn)
            if left < 0 and (kept or turns):
                break
            turns.insert(0, turn)
        if turns:
            kept.append(chat.model_copy(update={"turns": turns}))
        if left < 0:
            break
    return Chats(chats=tuple(kept), open=chats.open).model_dump(mode="json")


def _size(turn: Turn) -> int:
    return len(turn.model_dump_json().encode())
