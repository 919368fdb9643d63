"""Requests of chat front ends that are not a user's question: titles, tags, follow-up questions, search queries.

Open WebUI and LibreChat send these to the same model, as the last message of a chat. Searching an index for them would
waste a search and put passages in the way, so they are answered from the message alone.
"""

from __future__ import annotations

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
