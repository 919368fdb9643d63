"""REPLUG's mixture: exact in float64, and unaffected by caches, order and other answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from ragx import cepe
from ragx.engine.backend import decoder_of
from ragx.engine.mixture import Mixture, mix, softmax_log_weights
from ragx.errors import ConfigError
from tests.helpers.tiny import save_decoder, with_config

ROWS = [[5, 9, 30, 4], [17, 30, 4], [8, 8, 90, 100, 30, 4]]
SCORES = [0.3, 1.2, -0.4]
ANSWER = [7, 40, 3, 11, 60]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("decoder")
    save_decoder(folder)
    return cepe.load(str(folder), dtype="float32", device="cpu")


def mixed(model: Any, rows: Sequence[Sequence[int]], scores: Sequence[float], *, piece: int = 4) -> np.ndarray:
    """Logits (1 + answer, V) after the prompt and each token of the answer, decoded between two other answers."""
    decoder = decoder_of(model)
    prompt = [token for row in rows for token in row]
    mixture = Mixture([len(row) for row in rows], softmax_log_weights(scores))
    sequence = decoder.sequence(mixture, len(prompt) + len(ANSWER))
    for at in range(0, len(prompt), piece):
        logits = decoder.prefill(sequence, prompt[at : at + piece], is_last=at + piece >= len(prompt))
    first, last = (decoder.sequence(None, 30) for _ in range(2))
    batch = decoder.batch()
    for other in (first, last):
        decoder.prefill(other, [3, 4], is_last=True)
    batch.join(first)
    batch.join(sequence)
    batch.join(last)
    results = [logits, batch.step([20, ANSWER[0], 21])[1]]
    batch.leave(0)  # the last answer takes the first place
    results += [batch.step([22, token])[1] for token in ANSWER[1:3]]
    batch.leave(0)
    return np.stack(results + [batch.step([token])[0] for token in ANSWER[3:]])


def expected(model: Any, rows: Sequence[Sequence[int]], scores: Sequence[float]) -> np.ndarray:
    """The same in float64, without a cache: Σ_k softmax(s)_k p(y | row_k, answer so far)."""
    exact = with_config(model).double()
    weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
    steps = []
    for length in range(len(ANSWER) + 1):
        outputs = [exact(torch.tensor([[*row, *ANSWER[:length]]])).logits[0, -1].softmax(dim=0) for row in rows]
        steps.append(sum(weight * output for weight, output in zip(weights, outputs, strict=True)))
    model.float()
    return torch.stack(steps).log().detach().numpy()


def test_probabilities_are_the_weighted_sums(model: Any) -> None:
    want = expected(model, ROWS, SCORES)
    for piece in (1, 4, 100):
        np.testing.assert_allclose(mixed(model, ROWS, SCORES, piece=piece), want, atol=1e-5)


def test_probabilities_sum_to_1(model: Any) -> None:
    np.testing.assert_allclose(np.exp(mixed(model, ROWS, SCORES)).sum(axis=1), 1, atol=1e-5)


def test_the_order_of_passages_and_their_scores_changes_nothing(model: Any) -> None:
    np.testing.assert_allclose(mixed(model, ROWS[::-1], SCORES[::-1]), mixed(model, ROWS, SCORES), atol=1e-5)


def test_equal_passages_are_one(model: Any) -> None:
    alone = mixed(model, ROWS[:1], [0.0])
    probabilities = np.exp(alone - np.logaddexp.reduce(alone, axis=1, keepdims=True))
    np.testing.assert_allclose(np.exp(mixed(model, ROWS[:1] * 3, SCORES)), probabilities, atol=1e-5)


def test_improbable_tokens_keep_their_order() -> None:
    logits = np.array([[0, -1e4, -2e4], [0, -3e4, -2e4]], np.float32)
    assert mix(logits, softmax_log_weights([0, 0])).tolist() == pytest.approx([0, -1e4, -2e4], abs=1)


def test_temperature_divides_scores() -> None:
    assert softmax_log_weights([2, 4], 2) == pytest.approx(softmax_log_weights([1, 2]))
    assert np.exp(softmax_log_weights([1000, 0])).tolist() == [1, 0]


def test_a_sliding_window_is_refused(model: Any) -> None:
    decoder = decoder_of(with_config(model, sliding_window=16))
    with pytest.raises(ConfigError, match="without a sliding window"):
        decoder.sequence(Mixture([1, 1], softmax_log_weights([0, 0])), 8)
    decoder.sequence(Mixture([2], [0.0]), 8)
