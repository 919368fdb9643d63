"""What vLLM is asked for a question: the prompt of `ragx ask`, and the passages beside it. Needs no vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ragx.config import PROMPT_PASSAGES
from ragx.reader.prompt import build_prompt, passage_text
from ragx.types import Passage

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer


def question_prompt(
    tokenizer: Tokenizer,
    question: str,
    passages: Sequence[Passage],
    *,
    prompt_passages: int = PROMPT_PASSAGES,
    max_tokens: int,
) -> dict[str, Any]:
    """A prompt for `LLM.generate` or `AsyncLLM.generate`.

    Args:
        tokenizer: of the folder that vLLM serves (`ragx.util.tokenization.load_tokenizer`).
        question: the question.
        passages: best first; the encoder reads all of them.
        prompt_passages: how many of the first also stand in the prompt, if they fit.
        max_tokens: the most tokens of the prompt.

    Raises:
        ConfigError: the question does not fit.
    """
    prompt = build_prompt(tokenizer, question, passages[:prompt_passages], max_tokens=max_tokens)
    sent = {
        "texts": [passage_text(passage) for passage in passages],
        "prompted": prompt.passages > 0,
        "question_start": prompt.question_start,
    }
    return {"prompt_token_ids": prompt.ids, "multi_modal_data": {"passages": sent}}
