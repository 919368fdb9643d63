"""Questions: many passages in the encoder, questions about each of them in the decoder's chat, the loss on the answers.

This recipe is not the paper's. All passages are in the encoder, and few or none of them in the prompt too, which is
that of `ragx ask`. An answer that stands only in the encoder can be given by whoever finds it there.

Reading the passages is most of the cost of a question. So an example asks questions about all of its passages side by
side, and to each of them the passages that the others are about are distractors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import Field, model_validator

from ragx.cepe.model import CepeModel
from ragx.reader.prompt import build_prompt, passage_text
from ragx.types import Passage
from ragx.util.tokenization import plain_ids
from ragx_train.data.example import Batch, Example, side_by_side
from ragx_train.data.mixing import pick
from ragx_train.data.questions import Question, QuestionSettings, load_questions, questions_fingerprint
from ragx_train.engine.attention import gold_attention_loss, watching_gold
from ragx_train.engine.loop import Run, train
from ragx_train.engine.losses import Losses, next_token_loss
from ragx_train.engine.model import reader_to_train
from ragx_train.engine.step import Loss
from ragx_train.settings import RecipeSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Item = TypeVar("Item")


class QaSettings(RecipeSettings):
    """`ragx train qa`."""

    data: QuestionSettings
    attention: float = Field(default=0.0, ge=0)
    """Coefficient of the loss on attention that falls beside the gold passages; see attention.py."""

    @model_validator(mode="after")
    def _attention_is_seen_once(self) -> QaSettings:
        if self.attention and self.loop.activation_checkpointing:
            raise ValueError("attention needs loop.activation_checkpointing=false: it is watched in the forward pass")
        return self


def run(settings: QaSettings, run: Run) -> None:
    """Train a reader to answer from what the encoder reads."""
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    example, validation = examples(settings, tokenizer)
    train(
        settings,
        run,
        model,
        example,
        validation,
        {"data.files": questions_fingerprint(settings.data)},
        answering(settings.attention) if settings.attention else next_token_loss,
    )


def answering(attention: float) -> Loss:
    """The summed loss of a batch: cross-entropy of the answers, and in training of the attention too."""

    def loss(model: CepeModel, batch: Batch) -> Losses:
        with watching_gold(model, batch) as shares:
            answers = next_token_loss(model, batch)["loss"]
        beside = gold_attention_loss(shares)
        total = answers + attention * beside if model.training else answers
        return {"loss": total, "answers": answers.detach(), "attention": beside.detach()}

    return loss


def examples(
    settings: QaSettings, tokenizer: PreTrainedTokenizerFast
) -> tuple[Callable[[int], Example], list[Example]]:
    """The example at a position, and those for validation, which ask what only the encoder can tell."""
    training, held_out = load_questions(settings.data, tokenizer)
    seed, most, near = settings.loop.seed, max(1, settings.data.passages[1]), settings.data.same_article

    @lru_cache(maxsize=2 * len(training))
    def order(file: int, epoch: int) -> list[int]:
        return training[file].order(near, np.random.default_rng([seed, file, epoch]))

    def example(position: int) -> Example:
        file, index = pick([each.weight for each in training], position)
        epoch, place = divmod(index, -(-len(training[file].groups) // most))
        places = order(file, epoch)[place * most : (place + 1) * most]
        groups = [training[file].groups[place] for place in places]
        return asked(groups, settings.data, tokenizer, np.random.default_rng([seed, 0, position]))

    unseen = settings.data.model_copy(update={"prompt_passages": (0, 0)})
    validation = []
    for position in range(settings.loop.validation_examples if held_out else 0):
        among, random = held_out[position % len(held_out)], np.random.default_rng([seed, 1, position])
        groups = [among.groups[place] for place in among.order(near, random)[:most]]
        validation.append(asked(groups, unseen, tokenizer, random))
    return example, validation


def asked(
    groups: Sequence[Sequence[Question]],
    settings: QuestionSettings,
    tokenizer: PreTrainedTokenizerFast,
    random: np.random.Generator,
) -> Example:
    """Questions about the passages of as many groups as there is room for, in an order that tells nothing."""
    room = int(random.integers(settings.passages[0], settings.passages[1] + 1))
    read: list[Passage] = []
    candidates: list[Question] = []
    for group in groups:
        gold = [passage for passage in group[0].gold if passage not in read]
        if read and len(read) + len(gold) > room:
            break
        read += gold
        others = [passage for passage in group[0].distractors if passage not in read and passage_text(passage)]
        read += _shuffled(others, random)[: max(0, room - len(read))]
        candidates += group
    read = _shuffled(read, random)
    count = int(random.integers(settings.prompt_passages[0], settings.prompt_passages[1] + 1))
    in_prompt = _shuffled(read, random)[:count]
    # retrieval puts what tells the answer into the prompt more often than not
    prompt_first = sorted(_shuffled(candidates, random), key=lambda each: each.gold[0] not in in_prompt)
    questions = prompt_first[: settings.questions]
    prompts, answers = [], []
    for question in questions:
        prompts.append(build_prompt(tokenizer, question.text, in_prompt, max_tokens=settings.max_prompt_tokens).ids)
        answer = question.answers[int(random.integers(len(question.answers)))]
        answers.append([*answer, tokenizer.eos_token_id])
    ids = plain_ids(tokenizer, [passage_text(passage) for passage in read])
    return replace(
        side_by_side(prompts, answers, origin=questions[0].origin),
        passages=[passage[: settings.max_passage_tokens] for passage in ids],
        gold=[[place for place, passage in enumerate(read) if passage in question.gold] for question in questions],
    )


def _shuffled(items: Sequence[Item], random: np.random.Generator) -> list[Item]:
    return [items[place] for place in random.permutation(len(items))]
