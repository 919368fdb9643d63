"""The streams of `ragx train reader`, mixed: text to reconstruct, text to continue, and questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ragx.errors import CorpusError
from ragx_train.data.documents import open_corpus
from ragx_train.data.example import Example
from ragx_train.data.questions import questions_fingerprint
from ragx_train.data.sequences import Sequence as Tokens
from ragx_train.data.sequences import Sequences, train_and_test
from ragx_train.data.streams import Stream, chunk_count, continuation, masked, mixed, reconstruction
from ragx_train.recipes.qa import QaSettings
from ragx_train.recipes.qa import examples as question_examples
from ragx_train.recipes.reader.options import ReaderData, StageSettings

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer


@dataclass(frozen=True)
class Streams:
    """What a stage trains on."""

    example: Stream
    validation: Mapping[str, Sequence[Example]]
    """By stream."""
    fingerprint: Mapping[str, str]


def streams(settings: StageSettings, tokenizer: Tokenizer) -> Streams:
    """The mixture of a stage's streams, held-out examples of each, and digests of the data.

    Raises:
        CorpusError: there is too little text, or no question.
    """
    data, loop, mix = settings.data, settings.loop, settings.stage.mix
    weights = {name: weight for name, weight in mix.model_dump().items() if weight}
    fingerprint: dict[str, str] = {}
    parts: dict[str, Stream] = {}
    validation: dict[str, Sequence[Example]] = {}
    lengths = {"reconstruction": data.reconstruction_tokens, "continuation": data.encoder_tokens + data.decoder_tokens}
    for name in weights.keys() & lengths.keys():
        corpus = open_corpus(data.known_texts(), tokenizer)
        fingerprint["data.texts"] = corpus.fingerprint()
        training, test = train_and_test(corpus, data.known_texts(), loop, tokenizer, length=lengths[name])
        examples = loop.steps * loop.batch_size * weights[name] / sum(weights.values())
        parts[name] = _texts(name, training, settings, examples if settings.stage.curriculum else 0)
        validation[name] = [_text(name, sequence, data, data.encoder_tokens) for sequence in test]
    if mix.answers:
        if data.questions is None or not data.questions.files:
            raise CorpusError("no question to train on: data.questions has none, or the decoder answers none correctly")
        fingerprint["data.questions"] = questions_fingerprint(data.questions.paths())
        of_questions = QaSettings(
            model=settings.model, loop=loop, data=data.questions, cross_attend=settings.cross_attend
        )
        parts["answers"], validation["answers"] = question_examples(of_questions, tokenizer)
    mixture = mixed([parts[name] for name in weights], list(weights.values()))
    return Streams(mixture, {name: validation[name] for name in weights}, fingerprint)


def _texts(name: str, sequences: Sequences, settings: StageSettings, curriculum: float) -> Stream:
    """Texts of as many chunks as the curriculum has reached; `curriculum` is its number of examples, 0 without one."""
    data = settings.data
    chunk, tokens = data.chunk, data.encoder_tokens
    if name == "reconstruction":
        chunk, tokens = data.reconstruction_chunk, data.reconstruction_tokens

    def example(position: int) -> Example:
        random = np.random.default_rng([settings.loop.seed, len(name), position])
        progress = min(1.0, position / curriculum) if curriculum else 1.0
        text = _text(name, sequences[position], data, chunk * chunk_count(progress, tokens // chunk, random))
        return text if name == "reconstruction" else masked(text, settings.masking, random)

    return example


def _text(name: str, sequence: Tokens, data: ReaderData, tokens: int) -> Example:
    """A text whose encoder reads `tokens` tokens at most."""
    ids, origin = sequence
    if name == "reconstruction":
        return reconstruction((ids[:tokens], origin), data.reconstruction_chunk)
    text = continuation((ids[data.encoder_tokens - tokens :], origin), data.chunk, tokens)
    return replace(text, before=[])  # there is no teacher, and `before` differs in length
