"""Subtitles (SubRip, WebVTT): what is said, without numbers and times."""

from __future__ import annotations

import html
import re
from pathlib import Path

from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.source import read_source

_TIMES = re.compile(r"\s*(?:\d+:)?\d+:\d+[.,]\d+\s+-->\s+((?:\d+:)?\d+:\d+[.,]\d+)(?:\s.*)?")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]*)>")
_MARKUP = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


def parse(path: Path) -> Parsed:
    """A line of text a cue; a line that repeats the one before, as in rolling captions, is dropped."""
    source, missing = read_source(path)
    lines: list[str] = []
    end = ""
    for block in re.split(r"\n[ \t]*\n", source.replace("\ufeff", "")):
        rows = block.strip("\n").split("\n")
        times = next((number for number, row in enumerate(rows[:2]) if _TIMES.fullmatch(row)), None)
        if times is None:  # the header, a note, a style, or text after an empty line
            if end and not rows[0].startswith(("NOTE", "STYLE", "REGION")):
                lines += rows
            continue
        if match := _TIMES.fullmatch(rows[times]):
            end = match[1].replace(",", ".")
        lines += rows[times + 1 :]
    said: list[str] = []
    for line in lines:
        text = html.unescape(_MARKUP.sub("", _VOICE.sub(r"\1: ", line))).strip()
        if text and text not in said[-2:]:
            said.append(text)
    return Parsed("\n".join(said), metadata={"duration": end} if end else {}, missing=missing)
