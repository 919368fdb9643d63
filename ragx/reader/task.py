"""What a reader is asked to do with its passages."""

from __future__ import annotations

from dataclasses import dataclass

from ragx.reader.examples import Example

INSTRUCTION = "Answer the question using only the passages below. Answer in one or two short sentences."
SUMMARISE = "Summarise the text above in a few sentences."


@dataclass(frozen=True)
class Task:
    """How the prompt is worded, and what the encoder reads besides the passages."""

    instruction: str = INSTRUCTION
    """Stands before the passages; empty: none, and the question follows the passages without a label."""
    is_document: bool = False
    """The passages are consecutive parts of documents, the last one first. The prompt joins those that it holds, and
    the encoder reads only the others (paper section 3)."""
    examples: tuple[Example, ...] = ()
    """Demonstrations: turns before the conversation."""


ANSWER = Task()
"""Answer the question from passages."""
DOCUMENT = Task(is_document=True)
"""Answer the question from documents."""
SUMMARY = Task("", is_document=True)
"""Do with documents what the question says."""
PLAIN = Task("")
"""Answer the question without passages."""
