"""A score equals the plain cross-entropy over a whole sequence."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ragx.evaluation.scoring import score
from ragx.reader.cepe import CepeReader

IDS = [(7 * number) % 300 for number in range(120)]
PASSAGES = [IDS[:30], IDS[30:47]]


def whole_sequence(reader: CepeReader, ids: list[int], passages: list[list[int]], last: int) -> tuple[float, int]:
    inputs = torch.tensor([ids])
    with torch.no_grad():
        context = {} if not passages else {"context": reader.model.encode_passages(passages)}
        logits = reader.model(inputs, **context).logits[0]
    labels = inputs[0, 1:]
    nll = F.cross_entropy(logits[:-1], labels, reduction="none")
    return nll[-last:].sum().item(), int((logits[:-1].argmax(dim=1) == labels)[-last:].sum())


@pytest.mark.parametrize("passages", [[], PASSAGES])
@pytest.mark.parametrize("last", [1, 60, len(IDS) - 1])
def test_a_score_is_that_of_the_whole_sequence(reader: CepeReader, passages: list[list[int]], last: int) -> None:
    values = score(reader.model, IDS, passages, last=last)
    nll, correct = whole_sequence(reader, IDS, passages, last)
    assert values == {"nll": pytest.approx(nll, rel=1e-5), "correct": correct, "tokens": last}


def test_passages_matter_and_their_order_does_not(reader: CepeReader) -> None:
    without, forward, backward = (
        score(reader.model, IDS, passages, last=60)["nll"] for passages in ([], PASSAGES, PASSAGES[::-1])
    )
    assert abs(without - forward) > 1e-3
    assert backward == pytest.approx(forward, rel=1e-5)


@pytest.mark.parametrize("last", [0, len(IDS), -1])
def test_the_first_token_cannot_be_scored(reader: CepeReader, last: int) -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        score(reader.model, IDS, [], last=last)
