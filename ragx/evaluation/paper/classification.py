"""The data of Table 3: labelled texts, balanced demonstrations, and the likelihood of each label."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from ragx.engine.prefix import Prefix
from ragx.errors import CorpusError
from ragx.util.jsonlines import load_objects

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.reader.base import PreparedPrompt


@dataclass(frozen=True)
class Labelled:
    """A text and its label."""

    text: str
    label: str

    def shown(self, template: str) -> str:
        """As a demonstration."""
        return template.replace("{text}", self.text).replace("{label}", self.label)

    def asked(self, template: str) -> str:
        """As the text to classify: the template up to its label, without the space before it."""
        return template.partition("{label}")[0].rstrip(" ").replace("{text}", self.text)


def read_labelled(path: Path) -> list[Labelled]:
    """Rows with `text` and `label`.

    Raises:
        CorpusError: the file cannot be read, has no row, or a row has no text or label.
    """
    rows = []
    for where, row in load_objects(path):
        text, label = row.get("text"), row.get("label")
        if not isinstance(text, str) or not isinstance(label, str) or not label:
            raise CorpusError(f"{where} has no `text` and `label`")
        rows.append(Labelled(text, label))
    if not rows:
        raise CorpusError(f"{path} has no text")
    return rows


def balanced(rows: Sequence[Labelled], count: int, seed: int) -> list[Labelled]:
    """Demonstrations with as many of each label as of any other, but for a remainder; fewer if the rows run out.

    The first ones are those of a smaller `count`.
    """
    draw = random.Random(seed)
    by_label: dict[str, list[Labelled]] = {}
    for row in rows:
        by_label.setdefault(row.label, []).append(row)
    groups = list(by_label.values())
    draw.shuffle(groups)
    for group in groups:
        draw.shuffle(group)
    turns = cycle([iter(group) for group in groups])
    most = len(groups) * max(map(len, groups))
    drawn = (next(turn, None) for turn in islice(turns, most))
    return list(islice((row for row in drawn if row is not None), count))


def sample(rows: Sequence[Labelled], count: int, seed: int) -> list[Labelled]:
    """Rows to classify."""
    return random.Random(seed).sample(list(rows), min(count, len(rows)))


def digest(*rows: Labelled) -> str:
    """Tells rows apart."""
    content = json.dumps([[row.label, row.text] for row in rows])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@torch.inference_mode()
def continuations(model: CepeModel, prepared: PreparedPrompt, labels: Sequence[Sequence[int]]) -> list[float]:
    """log p of each continuation, summed over its tokens; the prompt is read once."""
    cache = DynamicCache()

    def log_probs(embeddings: torch.Tensor, keep: int) -> torch.Tensor:
        inputs = {"inputs_embeds": embeddings[None], "context": prepared.context, "logits_to_keep": keep}
        logits: torch.Tensor = model(**inputs, past_key_values=cache, use_cache=True).logits[0].float()
        return logits.log_softmax(dim=-1)  # (keep, V)

    def embedded(ids: Sequence[int]) -> torch.Tensor:
        embeddings: torch.Tensor = model.model.embed_tokens(torch.tensor(list(ids), device=model.device))
        return embeddings  # (N, W)

    before = [prepared.layout.embeddings] if isinstance(prepared.layout, Prefix) else []
    first = log_probs(torch.cat([*before, embedded(prepared.prompt.ids)]), 1)
    results = []
    for ids in labels:
        rows = first
        if len(ids) > 1:
            rows = torch.cat([first, log_probs(embedded(ids[:-1]), len(ids) - 1)])
            cache.crop(-(len(ids) - 1))
        results.append(rows.gather(1, torch.tensor(list(ids), device=rows.device)[:, None]).sum().item())
    return results


def labels_of(rows: Sequence[Labelled], others: Sequence[Labelled]) -> list[str]:
    """All labels, in alphabetical order."""
    return sorted({row.label for row in chain(rows, others)})
