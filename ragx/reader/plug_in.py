"""A reader around another decoder than its own: does what it adds help that decoder?"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import SamplingParams
from ragx.errors import RagxError
from ragx.types import Passage
from ragx.util.files import durable_file
from ragx.util.folders import cache_home

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.reader.cepe import CepeReader

MOST = 1.1
"""Perplexity with passages, divided by that without, from which the user is warned."""

TEXTS = (
    "The lighthouse on Hallow Point was built in 1868 by Ida Brandt, who had drawn bridges until then.",
    "Ferries leave the harbour of Mossby at half past six in the morning and return after dark.",
    "The bakery in Quarry Lane sells rye bread with caraway, and closes on Wednesdays.",
    "In the winter of 1911 the river Elder froze, and the mill stood still for nine weeks.",
    "The museum keeps 240 clocks; the oldest was made in Prague and still strikes the hours.",
)
QUESTIONS = (
    ("Who built the lighthouse on Hallow Point?", "Ida Brandt built the lighthouse in 1868."),
    ("When do ferries leave Mossby?", "Ferries leave Mossby at half past six in the morning."),
    ("When does the bakery in Quarry Lane close?", "The bakery in Quarry Lane closes on Wednesdays."),
    ("How long did the mill stand still?", "The mill stood still for nine weeks."),
    ("Where was the oldest clock made?", "The oldest clock was made in Prague."),
)


def plug_in_notes(reader: CepeReader) -> list[str]:
    """A line if the reader raises the perplexity of a decoder that is not its own; measured once for each pair."""
    key = reader.model.plugged_in
    if key is None or not reader.model.is_trained:
        return []
    path = cache_home() / "plug-in" / f"{key}.json"
    ratio = _stored(path)
    if ratio is None:
        ratio = perplexity_ratio(reader)
        with suppress(OSError, RagxError):  # otherwise it is measured again next time
            path.parent.mkdir(parents=True, exist_ok=True)
            with durable_file(path) as file:
                file.write(json.dumps({"ratio": ratio}).encode())
    if ratio <= MOST:
        return []
    return [
        f"the reader does not suit this decoder: passages raise its perplexity by {ratio - 1:.0%} on a sample;"
        " --reader full reads without it"
    ]


def perplexity_ratio(reader: CepeReader) -> float:
    """Perplexity of the sample's answers with passages in the encoder, divided by that without."""
    import torch

    passages = [Passage(f"#{n}", "", "", text, n, 0, len(text), "") for n, text in enumerate(TEXTS)]
    model: CepeModel = reader.model  # type: ignore[assignment]  # only torch plugs in
    difference, tokens = 0.0, 0
    for question, answer in QUESTIONS:
        prepared = reader.prepare(question, passages, prompt_passages=0, sampling=SamplingParams(max_new_tokens=64))
        labels = reader.tokenizer.plain_ids([answer])[0]
        ids = torch.tensor([prepared.prompt.ids + labels], device=model.device)  # (1, N)
        for context, sign in ((prepared.context, 1), (None, -1)):
            with torch.inference_mode():
                output = model(ids, context=context, logits_to_keep=len(labels) + 1, use_cache=False)
                logits = output.logits[0, :-1].float()  # (answer tokens, V)
                loss = torch.nn.functional.cross_entropy(logits, ids[0, -len(labels) :], reduction="sum")
            difference += sign * loss.item()
        tokens += len(labels)
    return float(torch.tensor(difference / tokens).exp())


def _stored(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_bytes())["ratio"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
