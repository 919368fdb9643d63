"""Which decoder layers hold induction and previous-token heads: `python -m benchmarks.attention_heads`.

A reader starts best from these layers (train/README.md). Text of 128 tokens stands twice in the decoder. An induction
head looks, from a token's second occurrence, at the token after the first one; a previous-token head at the token
before. The most of a layer's heads is shown, as a share of the attention, averaged over texts and tokens.
"""

from __future__ import annotations

from itertools import islice

import torch
from transformers import AutoModelForCausalLM

from benchmarks import sample
from ragx.models import resolve
from ragx.util.tokenization import load_tokenizer, plain_ids

DECODER, LENGTH, TEXTS = "smollm2-135m-instruct", 128, 12


def run() -> str:
    """A Markdown table."""
    folder = resolve(DECODER, "decoder")
    texts = plain_ids(load_tokenizer(folder), [passage.text for passage in sample.passages()[::40]])
    once = torch.tensor(list(islice((ids[:LENGTH] for ids in texts if len(ids) >= LENGTH), TEXTS)))  # (B, L)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    with torch.inference_mode():
        attentions = model(torch.cat([once, once], dim=1), output_attentions=True).attentions
    second, later = torch.arange(LENGTH, 2 * LENGTH - 1), torch.arange(1, LENGTH)
    rows = []
    for layer, weights in enumerate(attentions):  # (B, H, 2·L, 2·L)
        induction = weights[:, :, second, second - LENGTH + 1].float().mean(dim=(0, 2)).max()
        previous = weights[:, :, later, later - 1].float().mean(dim=(0, 2)).max()
        rows.append(f"| {layer} | {induction:.2f} | {previous:.2f} |")
    return "\n".join(["| layer | induction | previous token |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(run())
