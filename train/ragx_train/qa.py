"""Questions: the passages in the encoder, the question in the decoder's chat, the loss on the answer alone.

This recipe is not the paper's. The gold passages are always in the encoder, and only sometimes in the prompt too, with
distractors around them in both, as in `ragx ask`, whose prompt this is. An answer that stands only in the encoder can
be given by whoever reads there.

The encoder is most of the cost of a question. So questions about the same passages are asked side by side, and
distractors are passages that other questions of the step are about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from ragx.cepe.model import CepeModel
from ragx.reader.prompt import build_prompt, passage_text
from ragx.tokenization import plain_ids
from ragx.types import Passage
from ragx_train.attention import gold_attention_loss, watching_gold
from ragx_train.example import Batch, Example, side_by_side
from ragx_train.loop import Run, train
from ragx_train.losses import Losses, next_token_loss
from ragx_train.mixing import pick
from ragx_train.model import reader_to_train
from ragx_train.questions import Question, QuestionSet, QuestionSettings, load_questions
from ragx_train.settings import RecipeSettings
from ragx_train.step import Loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


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
    seed, size = settings.loop.seed, settings.data.pool

    @lru_cache(maxsize=2 * len(training))
    def order(file: int, epoch: int) -> list[int]:
        return training[file].order(np.random.default_rng([seed, file, epoch]))

    def group(position: int) -> tuple[QuestionSet, list[Question]]:
        file, index = pick([each.weight for each in training], position)
        epoch, place = divmod(index, len(training[file].groups))
        return training[file], training[file].groups[order(file, epoch)[place]]

    def example(position: int) -> Example:
        first = position // size * size
        pool = [passage for n in range(first, first + size) for passage in group(n)[1][0].gold] if size > 1 else []
        among, questions = group(position)
        random = np.random.default_rng([seed, 0, position])
        return replace(asked(questions, among, settings.data, tokenizer, random, pool), pool=first)

    unseen = settings.data.model_copy(update={"gold_in_prompt": 0.0})
    validation = []
    for position in range(min(settings.loop.validation_examples, sum(len(each.groups) for each in held_out))):
        among = held_out[position % len(held_out)]
        random = np.random.default_rng([seed, 1, position])
        questions = among.groups[int(random.integers(len(among.groups)))]
        validation.append(asked(questions, among, unseen, tokenizer, random))
    return example, validation


def asked(
    questions: Sequence[Question],
    among: QuestionSet,
    settings: QuestionSettings,
    tokenizer: PreTrainedTokenizerFast,
    random: np.random.Generator,
    pool: Sequence[Passage] = (),
) -> Example:
    """Questions about the same gold passages, and others drawn around these, in an order that tells nothing."""
    chosen = [questions[place] for place in random.permutation(len(questions))[: settings.questions]]
    gold = chosen[0].gold
    count = int(random.integers(settings.passages[0], settings.passages[1] + 1))
    distractors = among.beside(chosen[0], count - len(gold), settings.same_article, random, pool)
    in_prompt = distractors[: int(random.integers(settings.prompt_passages[0], settings.prompt_passages[1] + 1))]
    if random.random() < settings.gold_in_prompt:
        in_prompt = gold + in_prompt[len(gold) :]
    in_prompt = _shuffled(in_prompt, random)
    order = [passage for passage in _shuffled(gold + distractors, random) if passage_text(passage)]
    read = plain_ids(tokenizer, [passage_text(passage) for passage in order])
    prompts, answers = [], []
    for question in chosen:
        prompts.append(build_prompt(tokenizer, question.text, in_prompt, max_tokens=settings.max_prompt_tokens).ids)
        answer = question.answers[int(random.integers(len(question.answers)))]
        answers.append([*answer, tokenizer.eos_token_id])
    example = side_by_side(prompts, answers, origin=chosen[0].origin)
    return replace(
        example,
        passages=[passage[: settings.max_passage_tokens] for passage in read],
        gold=[place for place, passage in enumerate(order) if passage in gold],
    )


def _shuffled(passages: list[Passage], random: np.random.Generator) -> list[Passage]:
    return [passages[place] for place in random.permutation(len(passages))]
