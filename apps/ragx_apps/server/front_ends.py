"""What chat front ends send besides a user's questions, and sources for those that show an answer's text alone.

Open WebUI and LibreChat ask the same model for titles, tags, follow-up questions and search queries, as the last
message of a chat. Searching an index for them would waste a search and put passages in the way, so they are answered
from the message alone.
"""

from __future__ import annotations

from ragx.reader.citations import without_marks
from ragx.types import Answer, place
from ragx.util.terminal import plain

TASK_HEADING = "### Task:"
"""Open WebUI begins every such prompt with it, and the prompts with files that it has searched itself."""
TITLE_PHRASES = (
    ("title for the conversation", "return the title"),
    ("analyze this conversation", "title in the detected language"),
    ("generate a concise title", "conversation that starts with"),
)
"""LibreChat's prompts for titles hold both phrases of a pair, in any case."""


def is_task(message: str) -> bool:
    """Whether a front end wrote the message, not its user."""
    text = message.strip()
    folded = text.casefold()
    return text.startswith(TASK_HEADING) or any(all(part in folded for part in pair) for pair in TITLE_PHRASES)


SOURCES = "\n\nSources:\n"


def source_list(answer: Answer) -> str:
    """The cited passages, one line each, to append to the answer's text; empty if it cites none."""
    cited = {each.number: each for each in answer.citations}
    lines = [
        f"- [{number}] {plain(each.title or each.source)}, {place(each)}" for number, each in sorted(cited.items())
    ]
    return SOURCES + "\n".join(lines) if lines else ""


def without_sources(message: str) -> str:
    """An earlier answer as it was before its marks were set and `source_list` was appended."""
    text, sources, _ = message.partition(SOURCES)
    return without_marks(text) if sources else text
