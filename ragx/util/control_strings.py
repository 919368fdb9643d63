"""Control tokens of language models as text: for servers that read them as control tokens wherever they stand.

A local tokenizer knows its control tokens and reads their strings as text (`ragx.util.tokenization`). A server's are
unknown here, and llama.cpp, among others, reads `<|im_end|>` in a user's message as the end of that message.
"""

from __future__ import annotations

import re

_NAMES = (
    "s", "bos", "eos", "pad", "unk", "mask", "start_of_turn", "end_of_turn", "start_of_image", "end_of_text", "think",
    "tool_call", "tool_response", "tool_calls", "function_calls", "image", "BOS", "EOS",
)  # fmt: skip
_MISTRAL = (
    "INST", "SYSTEM_PROMPT", "AVAILABLE_TOOLS", "TOOL_CALLS", "TOOL_RESULTS", "TOOL_CONTENT", "ARGS", "CALL_ID",
    "PREFIX", "SUFFIX", "MIDDLE", "THINK", "IMG", "IMG_BREAK", "IMG_END",
)  # fmt: skip
_CONTROL = re.compile(
    rf"<(?=\|[^|<>\s]+\|?>|[^|<>\s]+\|>|｜[^｜<>]+｜>|/?(?:{'|'.join(_NAMES)})>|<SYS>>|</SYS>>)"
    rf"|\[(?=/?(?:{'|'.join(_MISTRAL)})\])"
)


def without_control_strings(text: str) -> str:
    """Put a space after the first character of every string in the form of a control token, as in "< |im_end|>"."""
    return _CONTROL.sub(r"\g<0> ", text)
