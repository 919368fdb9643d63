"""Questions: the passages in the encoder, the question in the decoder's chat, the loss on the answer alone.

This recipe is not the paper's. The gold passages are always in the encoder, and only sometimes in the prompt too, with
distractors around them in both, as in `ragx ask`, whose prompt this is. An answer that stands only in the encoder can
be given by whoever reads there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ragx.reader.prompt import build_prompt, passage_text
from ragx.tokenization import plain_ids
from ragx.types import Passage
from ragx_train.example import Example, following
from ragx_train.loop import Run, train
from ragx_train.mixing import pick
from ragx_train.model import reader_to_train
from ragx_train.questions import Question, QuestionSet, QuestionSettings, load_questions, total_questions
from ragx_train.settings import RecipeSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class QaSettings(RecipeSettings):
    """`ragx train qa`."""

    data: QuestionSettings


def run(settings: QaSettings, run: Run) -> None:
    """Train a reader to answer from what the encoder reads."""
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    training, held_out = load_questions(settings.data, tokenizer)
    seed = settings.loop.seed

    @lru_cache(maxsize=2 * len(training))
    def order(file: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, file, epoch]).permutation(len(training[file].questions))

    def example(position: int) -> Example:
        file, index = pick([each.weight for each in training], position)
        epoch, place = divmod(index, len(training[file].questions))
        question = training[file].questions[order(file, epoch)[place]]
        return asked(question, training[file], settings.data, tokenizer, np.random.default_rng([seed, 0, position]))

    # validation asks what only the encoder can tell
    unseen = settings.data.model_copy(update={"gold_in_prompt": 0.0})
    validation = []
    for position in range(min(settings.loop.validation_examples, total_questions(held_out))):
        among = held_out[position % len(held_out)]
        random = np.random.default_rng([seed, 1, position])
        question = among.questions[int(random.integers(len(among.questions)))]
        validation.append(asked(question, among, unseen, tokenizer, random))
    train(settings, run, model, example, validation)


def asked(
    question: Question,
    among: QuestionSet,
    settings: QuestionSettings,
    tokenizer: PreTrainedTokenizerFast,
    random: np.random.Generator,
) -> Example:
    """A question with passages drawn around its gold ones, in an order that tells nothing."""
    count = int(random.integers(settings.passages[0], settings.passages[1] + 1))
    distractors = among.beside(question, count - len(question.gold), settings.same_article, random)
    in_prompt = distractors[: int(random.integers(settings.prompt_passages[0], settings.prompt_passages[1] + 1))]
    if random.random() < settings.gold_in_prompt:
        in_prompt = question.gold + in_prompt[len(question.gold) :]
    prompt = build_prompt(
        tokenizer, question.text, _shuffled(in_prompt, random), max_tokens=settings.max_prompt_tokens
    ).ids
    read = plain_ids(tokenizer, [passage_text(passage) for passage in _shuffled(question.gold + distractors, random)])
    answer = question.answers[int(random.integers(len(question.answers)))]
    ids = [*prompt, *answer, tokenizer.eos_token_id]
    return Example(
        ids=ids[:-1],  # nothing follows the token that ends the turn
        labels=following(ids, first=len(prompt) - 1)[:-1],
        passages=[passage[: settings.max_passage_tokens] for passage in read if passage],
        origin=question.origin,
    )


def _shuffled(passages: list[Passage], random: np.random.Generator) -> list[Passage]:
    return [passages[place] for place in random.permutation(len(passages))]
