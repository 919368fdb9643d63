"""Which decoder layers have induction and previous-token heads: `python -m benchmarks.attention_heads`.

A reader starts best from these layers (train/README.md). The decoder reads a text of 128 tokens twice. From a token's
second occurrence, an induction head attends to the token after the first one; a previous-token head attends to the
token before. Each layer shows its strongest head: its share of attention, averaged over texts and tokens.
"""

from __future__ import annotations

from itertools import islice

import torch
from transformers import AutoModelForCausalLM

from benchmarks import sample
from benchmarks.tables import markdown
from ragx.models import resolve
from ragx.util.tokenization import load_tokenizer

DECODER, LENGTH, TEXTS = "smollm2-135m-instruct", 128, 12


def run() -> str:
    """A Markdown table."""
    folder = resolve(DECODER, "decoder")
    texts = load_tokenizer(folder).plain_ids([passage.text for passage in sample.passages()[::40]])
    ids = torch.tensor(list(islice((text[:LENGTH] for text in texts if len(text) >= LENGTH), TEXTS)))  # (B, L)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    with torch.inference_mode():
        attentions = model(torch.cat([ids, ids], dim=1), output_attentions=True).attentions
    second, later = torch.arange(LENGTH, 2 * LENGTH - 1), torch.arange(1, LENGTH)
    rows = []
    for layer, weights in enumerate(attentions):  # (B, H, 2·L, 2·L)
        induction = weights[:, :, second, second - LENGTH + 1].float().mean(dim=(0, 2)).max()
        previous = weights[:, :, later, later - 1].float().mean(dim=(0, 2)).max()
        rows.append((layer, f"{induction:.2f}", f"{previous:.2f}"))
    return markdown(("layer", "induction", "previous token"), rows)


if __name__ == "__main__":
    print(run())
