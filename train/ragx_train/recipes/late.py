"""Late interaction: a projection of a reader's encodings learns to order what hybrid search found.

This recipe is not from the paper; it is ColBERT's late interaction (Khattab and Zaharia, SIGIR 2020) over states that a
reader keeps anyway. The encoder stays frozen, so training is mostly encoding, and encodings are kept: a second run
takes a minute.
"""

from __future__ import annotations

import numpy as np
import torch
import yaml
from pydantic import Field
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import trange

from ragx.config import LATE, EncodingOptions
from ragx.models.check import PROJECTION
from ragx.reader.cepe import CepeReader
from ragx.reader.loading import open_trained_reader
from ragx.retrieval.rerankers.base import scores_in_order
from ragx.retrieval.rerankers.late import LateReranker, save_projection
from ragx.types import Passage
from ragx.util.files import writer_lock
from ragx.util.settings import Settings
from ragx.util.terminal import notice
from ragx_train.data.ranking import Ranking, RankingSettings, load_ranking
from ragx_train.engine import log as record
from ragx_train.engine.cross_encoder import answered
from ragx_train.engine.late_interaction import LateInteraction, listwise_loss
from ragx_train.engine.loop import Run
from ragx_train.errors import OutputError
from ragx_train.settings import Share

CACHE_GB = 8.0
FIRST = 64
"""Questions whose passages give the first projection."""


class LateModelSettings(Settings):
    """What is trained."""

    reader: str = "ceped-smollm2-135m"
    """The reader whose encodings are projected; its weights stay as they are."""
    dimension: int = Field(default=128, ge=1)
    """D."""


class LateLoopSettings(Settings):
    """Optimisation and validation."""

    steps: int = Field(ge=1)
    batch_size: int = Field(default=16, ge=1)
    """Questions in a step."""
    learning_rate: float = Field(gt=0)
    """Peak, as a share of the projection's mean weight."""
    warmup: Share = 0.1
    validation_examples: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)


class LateSettings(Settings):
    """`ragx train reranker --kind late`."""

    model: LateModelSettings = LateModelSettings()
    data: RankingSettings
    loop: LateLoopSettings


def run(settings: LateSettings, run: Run) -> None:
    """Train a projection on groups of a question, a passage that answers it and others that do not.

    Writes the log and `late.safetensors`, which belongs beside the reader's weights, to `run.out`. A run that was
    interrupted starts again with the encodings it has made.

    Raises:
        ConfigError: a setting does not fit.
        CorpusError: the questions cannot be read, or there is none to train on.
        OutputError: another run is writing to `run.out`, or it cannot be written.
        ModelError: the reader is missing or untrained.
    """
    loop = settings.loop
    with writer_lock(run.out, OutputError):
        (run.out / "settings.yaml").write_text(
            yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
        )
        options = EncodingOptions(model=settings.model.reader, encodings="int8", cache_size=CACHE_GB)
        reader = open_trained_reader(options)
        ranking = load_ranking(settings.data, run.out / "data", loop.seed)
        notice(f"{len(ranking.training):,} questions to train on, {len(ranking.held_out):,} for validation")
        model = LateInteraction(_first_states(ranking, reader, loop.seed), settings.model.dimension)
        factors = {"matrix": model.matrix.abs().mean().item(), "importance": 0.1, "scale": 0.3, "order": 0.3}
        rates = [loop.learning_rate * factor for factor in factors.values()]
        optimizer = AdamW([{"params": [getattr(model, name)]} for name in factors], weight_decay=0.0)
        schedule = OneCycleLR(optimizer, rates, loop.steps + 1, pct_start=loop.warmup)
        with record.logging(run.out, 0) as log:
            log.write(0, **_validation(ranking, reader, model, loop.validation_examples))
            for step in trange(1, loop.steps + 1, unit="step"):
                if run.deadline is not None and run.clock() > run.deadline:
                    notice(f"time limit reached after step {step - 1} of {loop.steps}")
                    break
                positions = range((step - 1) * loop.batch_size, step * loop.batch_size)
                losses = [_loss(ranking, reader, model, position, loop.seed) for position in positions]
                loss = torch.stack(losses).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                log.write(step, loss=loss.item())
            figures = _validation(ranking, reader, model, loop.validation_examples)
            log.write(step, **figures)
        for name, value in figures.items():
            notice(f"{name.removeprefix('validation_')} {value:.1f}")
        save_projection(run.out, model.projection(), reader)
        notice(f"{run.out / PROJECTION} belongs beside the weights of {settings.model.reader}")


def _loss(ranking: Ranking, reader: CepeReader, model: LateInteraction, position: int, seed: int) -> Tensor:
    question, rows = ranking.rows(position, seed)
    places = [question.ranking.index(row) if row in question.ranking else len(question.ranking) for row in rows]
    states = _states(reader, [ranking.passage(row) for row in rows])
    return listwise_loss(
        model, torch.from_numpy(reader.encode_text(question.question)), states, [place + 1 for place in places]
    )


def _first_states(ranking: Ranking, reader: CepeReader, seed: int) -> Tensor:
    rows = {row for position in range(FIRST) for row in ranking.rows(position, seed)[1]}
    return torch.cat(_states(reader, [ranking.passage(row) for row in sorted(rows)]))


def _states(reader: CepeReader, passages: list[Passage]) -> tuple[Tensor, ...]:
    states, lengths = reader.encode_all(passages)
    split: tuple[Tensor, ...] = torch.from_numpy(states).split(lengths)
    return split


def _validation(ranking: Ranking, reader: CepeReader, model: LateInteraction, examples: int) -> dict[str, float]:
    """The percentage of held-out questions with an answer in the best passages, by hybrid search and reranked."""
    questions = ranking.held_out[:: max(1, len(ranking.held_out) // examples)][:examples]
    if not questions:
        return {}
    reranker = LateReranker(LATE, model.projection(), reader)
    found = []
    for each in questions:
        scores = scores_in_order(reranker, each.question, [ranking.passage(row) for row in each.ranking])
        found.append([each.answered[place] for place in np.argsort(-scores, kind="stable")])
    figures = {f"hybrid_{name}": value for name, value in answered([each.answered for each in questions]).items()}
    return {f"validation_{name}": value for name, value in (figures | answered(found)).items()}
