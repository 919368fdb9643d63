"""Questions: passages in the encoder, questions about them in the decoder's chat, the loss on the answers.

This recipe is not from the paper. All passages are in the encoder, and few or none in the prompt, which is that of
`ragx ask`. Answers that only the encoder holds teach the reader to find them there.

Encoding passages is most of the cost. So an example asks questions about all of its passages at once; for each question
the passages of the others are distractors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from pydantic import Field, model_validator

from ragx.cepe.model import CepeModel
from ragx.evaluation.content_words import supports
from ragx.reader.prompt import REFUSAL, build_prompt, count_question_tokens, passage_text
from ragx.types import CrossAttend, Passage
from ragx_train.data.example import Batch, Example, end_of_text, side_by_side
from ragx_train.data.mixing import pick
from ragx_train.data.questions import QuestionSettings, TrainingQuestion, load_questions, questions_fingerprint
from ragx_train.engine.attention import gold_attention_loss, gold_shares
from ragx_train.engine.loop import Run, train
from ragx_train.engine.losses import Losses, next_token_loss
from ragx_train.engine.model import reader_to_train
from ragx_train.engine.step import Loss
from ragx_train.settings import RecipeSettings

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

Item = TypeVar("Item")
Groups = Sequence[Sequence[TrainingQuestion]]
"""Questions about the same gold passages, each."""


class QaSettings(RecipeSettings):
    """`ragx train qa`."""

    data: QuestionSettings
    attention: float = Field(default=0.0, ge=0)
    """Coefficient of the loss on attention outside the gold passages; see attention.py."""
    cross_attend: CrossAttend = "all"
    """Prompt tokens that attend to passages."""

    @model_validator(mode="after")
    def _attention_is_not_recomputed(self) -> QaSettings:
        if self.attention and self.loop.activation_checkpointing:
            raise ValueError("attention needs loop.activation_checkpointing=false: it is observed in the forward pass")
        return self


def run(settings: QaSettings, run: Run) -> None:
    """Train a reader to answer from passages in the encoder."""
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    example, validation = examples(settings, tokenizer)
    train(
        settings,
        run,
        model,
        example,
        validation,
        {"data.files": questions_fingerprint(settings.data.paths())},
        answer_loss(settings.attention) if settings.attention else next_token_loss,
    )


def answer_loss(attention: float) -> Loss:
    """The loss: cross-entropy of the answers, and in training also of the attention, with this coefficient."""

    def loss(model: CepeModel, batch: Batch) -> Losses:
        with gold_shares(model, batch) as gold:
            answers = next_token_loss(model, batch)["loss"]
        on_attention = gold_attention_loss(gold) if gold else torch.zeros_like(answers)
        total = answers + attention * on_attention if model.training else answers
        return {"loss": total, "answers": answers.detach(), "attention": on_attention.detach()}

    return loss


def examples(settings: QaSettings, tokenizer: Tokenizer) -> tuple[Callable[[int], Example], list[Example]]:
    """A function from a position to an example, and examples for validation, without passages in the prompt."""
    training, held_out = load_questions(settings.data, tokenizer)
    seed, most, near = settings.loop.seed, max(1, settings.data.passages[1]), settings.data.same_article

    @lru_cache(maxsize=2 * len(training))
    def order(file: int, epoch: int) -> list[int]:
        return training[file].order(near, np.random.default_rng([seed, file, epoch]))

    def made(groups: Groups, data: QuestionSettings, random: np.random.Generator) -> Example:
        return question_example(groups, data, tokenizer, random, settings.cross_attend)

    def example(position: int) -> Example:
        file, index = pick([questions.weight for questions in training], position)
        epoch, number = divmod(index, -(-len(training[file].groups) // most))
        places = order(file, epoch)[number * most : (number + 1) * most]
        groups = [training[file].groups[place] for place in places]
        return made(groups, settings.data, np.random.default_rng([seed, 0, position]))

    without_prompt = settings.data.model_copy(update={"prompt_passages": (0, 0)})
    validation = []
    for position in range(settings.loop.validation_examples if held_out else 0):
        questions, random = held_out[position % len(held_out)], np.random.default_rng([seed, 1, position])
        groups = [questions.groups[place] for place in questions.order(near, random)[:most]]
        validation.append(made(groups, without_prompt, random))
    return example, validation


def question_example(
    groups: Groups,
    settings: QuestionSettings,
    tokenizer: Tokenizer,
    random: np.random.Generator,
    cross_attend: CrossAttend = "all",
) -> Example:
    """Questions about the passages of as many groups as there is room for; passages are in random order."""
    room = int(random.integers(settings.passages[0], settings.passages[1] + 1))
    passages: list[Passage] = []
    candidates: list[TrainingQuestion] = []
    unanswerable: list[TrainingQuestion] = []
    for group in groups:
        if passages and settings.unanswerable and random.random() < settings.unanswerable:
            unanswerable += group
            continue
        gold = [passage for passage in group[0].gold if passage not in passages]
        if passages and len(passages) + len(gold) > room:
            break
        passages += gold
        others = [passage for passage in group[0].others if passage not in passages and passage_text(passage)]
        passages += _shuffled(others, random)[: max(0, room - len(passages))]
        candidates += group
    candidates += refusals(unanswerable, passages, tokenizer)
    passages = _shuffled(passages, random)
    count = int(random.integers(settings.prompt_passages[0], settings.prompt_passages[1] + 1))
    in_prompt = _fitting(_shuffled(passages, random)[:count], candidates, settings, tokenizer)
    # in use, retrieval usually puts the gold passages into the prompt
    prompt_first = sorted(_shuffled(candidates, random), key=lambda each: each.gold[:1] not in [[p] for p in in_prompt])
    questions = prompt_first[: settings.questions]
    prompts, answers, starts = [], [], []
    for question in questions:
        prompt = build_prompt(tokenizer, question.text, in_prompt, max_tokens=settings.max_prompt_tokens)
        prompts.append(prompt.ids)
        starts.append(prompt.question_start)
        answer = question.answer_ids[int(random.integers(len(question.answer_ids)))]
        answers.append([*answer, end_of_text(tokenizer)])
    ids = tokenizer.plain_ids([passage_text(passage) for passage in passages])
    return replace(
        side_by_side(prompts, answers, origin=questions[0].where),
        passages=[passage[: settings.max_passage_tokens] for passage in ids],
        gold=[[place for place, passage in enumerate(passages) if passage in each.gold] for each in questions],
        attend_from=min(starts) if cross_attend == "question" else 0,
    )


def refusals(
    questions: Sequence[TrainingQuestion], passages: Sequence[Passage], tokenizer: Tokenizer
) -> list[TrainingQuestion]:
    """Those of `questions` that no passage answers, with the answer that says so."""
    texts = [passage_text(passage) for passage in passages]
    refusal = tokenizer.plain_ids([REFUSAL])
    return [
        replace(question, gold=[], answer_ids=refusal)
        for question in questions
        if not any(supports(text, question.text, answer) for text in texts for answer in question.answers)
    ]


def _fitting(
    passages: list[Passage], questions: Sequence[TrainingQuestion], settings: QuestionSettings, tokenizer: Tokenizer
) -> list[Passage]:
    """The first passages that fit into the prompt with each question: prompts that differ share no work."""
    longest = max((each.text for each in questions), key=lambda text: count_question_tokens(tokenizer, text))
    count = len(passages)
    while build_prompt(tokenizer, longest, passages[:count], max_tokens=settings.max_prompt_tokens).passages < count:
        count -= 1
    return passages[:count]


def _shuffled(items: Sequence[Item], random: np.random.Generator) -> list[Item]:
    return [items[place] for place in random.permutation(len(items))]
