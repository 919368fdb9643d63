"""Which decoder layers have induction and previous-token heads: `python -m benchmarks.attention_heads`.

Each layer shows its strongest head of either kind; see `ragx_train.engine.heads`.
"""

from __future__ import annotations

from itertools import islice

import torch
from ragx_train.engine.heads import measure_heads

from benchmarks import sample
from benchmarks.tables import markdown
from ragx.models import resolve
from ragx.util.tokenization import load_tokenizer

DECODER, LENGTH, TEXTS = "smollm2-135m-instruct", 128, 12


def run() -> str:
    """A Markdown table."""
    folder = resolve(DECODER, "decoder")
    texts = load_tokenizer(folder).plain_ids([passage.text for passage in sample.passages()[::40]])
    ids = list(islice((text[:LENGTH] for text in texts if len(text) >= LENGTH), TEXTS))
    rows = [
        (layer, f"{heads.induction:.2f}", f"{heads.previous_token:.2f}")
        for layer, heads in enumerate(measure_heads(folder, torch.tensor(ids)))
    ]
    return markdown(("layer", "induction", "previous token"), rows)


if __name__ == "__main__":
    print(run())
