"""Questions that the decoder writes about the passages of an index, to train on a corpus without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from ragx.index import Index
from ragx.reader.prompt import build_prompt, passage_text
from ragx.types import Passage
from ragx.util.sentences import sentence_spans
from ragx_train.data.content_words import content_words, supports
from ragx_train.data.questions import QuestionSettings
from ragx_train.data.written import Row, Writer

EXAMPLES = """Write a question for each text.

Text: Luanda, on the coast, is the capital and largest city of Angola.
Question: What is the capital of Angola?

Text: Marie Curie won the Nobel Prize in Physics in 1903 with her husband.
Question: When did Marie Curie win the Nobel Prize in Physics?

"""
"""Small decoders ask real questions only if they have seen some."""
LEAST_WORDS = 4
"""Content words of a sentence that a question is written about."""


def passages_to_ask(index: Index, seed: int) -> list[Passage]:
    """The passages of an index, in random order."""
    passages = [passage for passage in index.live_passages() if passage.text.strip()]
    return [passages[place] for place in np.random.default_rng(seed).permutation(len(passages))]


def documents(index: Index) -> Iterator[Row]:
    """The text of each document of an index as a row of documents."""
    for name, passages in groupby(index.live_passages(), lambda passage: passage.document):
        yield {"text": "\n".join(passage_text(passage) for passage in passages), "domain": "index", "title": name}


def write_questions(passages: Sequence[Passage], writer: Writer, settings: QuestionSettings) -> list[Row]:
    """A question about each passage with the decoder's answer, where the passage supports the answer.

    The question is about one sentence, because small decoders ask and answer far better about a sentence than about a
    passage.
    """
    sentences = [_sentence(passage) for passage in passages]
    asked = [writer.tokenizer.chat_ids(f"{EXAMPLES}Text: {sentence}\nQuestion:") for sentence in sentences]
    questions = [_question(text) for text in writer.answers(asked, settings.max_answer_tokens)]
    about = [
        (passage, sentence, question)
        for passage, sentence, question in zip(passages, sentences, questions, strict=True)
        if question is not None and content_words(question)
    ]
    if not about:
        return []
    prompts = [
        build_prompt(writer.tokenizer, question, [_cut(passage, sentence)], max_tokens=settings.max_prompt_tokens).ids
        for passage, sentence, question in about
    ]
    answers = writer.answers(prompts, settings.max_answer_tokens)
    return [
        {"question": question, "answers": [text], "title": passage.title, "context": passage.text}
        for (passage, _, question), text in zip(about, answers, strict=True)
        if text and supports(passage_text(passage), question, text)
    ]


def _sentence(passage: Passage) -> str:
    """The passage's sentence with the most content words, up to 40, or all of it."""
    sentences = [passage.text[start:end] for start, end in sentence_spans(passage.text)]
    long_enough = [each for each in sentences if LEAST_WORDS <= len(content_words(each)) <= 40]
    return max(long_enough, key=lambda each: len(content_words(each)), default=passage.text)


def _cut(passage: Passage, sentence: str) -> Passage:
    return replace(passage, text=sentence)


def _question(text: str | None) -> str | None:
    """The first line that is a question, without what stands around it."""
    for line in (text or "").splitlines():
        if "?" in line:
            return line[: line.index("?") + 1].strip().strip('"').removeprefix("Question:").strip()
    return None
