"""How likely the hits hold the answer, by a reranker's best score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ragx.errors import ModelError
from ragx.util.settings import Settings, checked


class Calibration(Settings):
    """A logistic function of a reranker's best score (Platt scaling), stored as `calibration` in its config.json."""

    slope: float
    offset: float

    def likelihood(self, scores: np.ndarray) -> float:
        """The likelihood, 0 to 1, that one of the passages with these scores, (n,) with n > 0, holds the answer."""
        return _logistic(self.slope * float(scores.max()) + self.offset)


def read_calibration(config: dict[str, Any], name: str) -> Calibration | None:
    """The calibration of a reranker with this config.json, if it has one.

    Raises:
        ModelError: it is damaged.
    """
    if (values := config.get("calibration")) is None:
        return None
    try:
        return checked(Calibration, values)
    except Exception as error:
        raise ModelError(f"{name}: config.json has no usable calibration: {error}") from error


def fit(scores: Sequence[float], answered: Sequence[bool]) -> Calibration:
    """The calibration with the highest likelihood, as if both kinds were equally frequent.

    Args:
        scores: the best score of each question's hits.
        answered: whether these hits hold the answer; there are both kinds.
    """
    x = np.stack([np.asarray(scores, float), np.ones(len(scores))], axis=1)
    y = np.asarray(answered, float)
    weight = np.where(y == 1, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    parameters = np.zeros(2)
    for _ in range(50):  # Newton's method; the loss is convex
        p = 1 / (1 + np.exp(-(x @ parameters)))
        gradient = x.T @ (weight * (p - y))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        parameters = parameters - np.linalg.solve(hessian, gradient)
    return Calibration(slope=float(parameters[0]), offset=float(parameters[1]))


def _logistic(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))
