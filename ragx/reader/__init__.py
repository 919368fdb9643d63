"""Passages and a question -> an answer. One file a way of reading."""

from __future__ import annotations

from typing import Literal

ReaderName = Literal["cepe", "full"]
READERS: tuple[ReaderName, ...] = ("cepe", "full")
