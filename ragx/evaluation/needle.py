"""Needle in a haystack (Kamradt, 2024; paper appendix D): one sentence in a long text that the encoder alone reads."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.config import SamplingParams
from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.bootstrap import percent
from ragx.evaluation.documents import read_texts
from ragx.evaluation.tables import Cell, Table
from ragx.reader.cepe import CepeReader
from ragx.types import Passage
from ragx.util.device import report_oom
from ragx.util.sentences import sentence_spans
from ragx.util.tokenization import plain_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ragx.evaluation.results import Results, Values

GENERATION = SamplingParams(max_new_tokens=32)
CHUNK = 256
"""Tokens of a passage of the encoder, unless one sentence has more."""
CITIES = ("Lisbon", "Nairobi", "Oslo", "Lima", "Hanoi", "Quebec", "Cairo", "Sydney")
FULL = 0.9
"""Of its length, a haystack has so much at least, unless its text's sentences are too long."""
MOST_WORDS = 50
"""What has no full stop for so many words, as a table, is cut there."""


@dataclass(frozen=True)
class Needle:
    """One trial: what is hidden, and what is asked."""

    sentence: str
    question: str
    number: str


@dataclass(frozen=True)
class Sentences:
    """Sentences of a haystack, and how many tokens each has."""

    texts: list[str]
    tokens: list[int]

    @property
    def described(self) -> str:
        """Tells them from the sentences of other text."""
        digest = hashlib.sha256("\n".join(self.texts).encode()).hexdigest()
        return f"{len(self.texts)} sentences, SHA-256 {digest[:16]}"


@report_oom()
def evaluate(
    reader: CepeReader,
    hay: Sentences,
    results: Results,
    *,
    lengths: Sequence[int],
    depths: Sequence[float],
    trials: int,
) -> tuple[Table, list[list[float]]]:
    """How often the number that a sentence tells is in the answer, by the haystack's length and the sentence's depth.

    Args:
        reader: the reader; nothing but the question stands in its prompt.
        hay: the haystack's text, of as many tokens as the largest of `lengths`.
        results: raw results, to continue.
        lengths: tokens of haystack.
        depths: where the sentence stands, in per cent of the haystack; 0 is its beginning.
        trials: of each length and depth, each with another needle in another part of the text.

    Returns:
        The table, a row a length; and the shares found, (lengths, depths).

    Raises:
        ConfigError: a number is out of range.
    """
    if min(lengths, default=0) < 1 or trials < 1:
        raise ConfigError("lengths and trials must be 1 or more")
    if not depths or any(not 0 <= depth <= 100 for depth in depths):
        raise ConfigError("depths are per cent, 0 to 100")
    # encodings of haystacks would fill the store that questions use
    bare = CepeReader(reader.model, reader.tokenizer)

    def ask(length: int, depth: float, trial: int) -> Values:
        needle = make_needle(trial)
        passages = hide(needle.sentence, hay, reader.tokenizer, length=length, depth=depth / 100, seed=trial)
        reading = bare.prepare(needle.question, passages, prompt_passages=0, sampling=GENERATION)
        answer = "".join(bare.stream(reading, GENERATION)).strip()
        tokens = 0 if reading.context is None else reading.context.tokens
        return {"number": needle.number, "answer": answer, "found": found(needle.number, answer), "tokens": tokens}

    def measured(length: int, depth: float, trial: int) -> Values:
        setting = f"length {length} depth {depth:g}"
        return results.measured(setting, str(trial), lambda: ask(length, depth, trial))

    cells = [(length, depth, trial) for length in lengths for depth in depths for trial in range(trials)]
    shares: dict[tuple[int, float], list[float]] = {(length, depth): [] for length in lengths for depth in depths}
    short = dict.fromkeys(lengths, 0)
    for length, depth, trial in tqdm(cells, desc="searching", unit=" needles"):
        values = measured(length, depth, trial)
        shares[length, depth].append(float(values["found"]))
        short[length] += values["tokens"] < FULL * length
    rows: list[list[Cell]] = []
    grid = [[sum(shares[length, depth]) / trials for depth in depths] for length in lengths]
    for length, row in zip(lengths, grid, strict=True):
        everywhere = percent([share for depth in depths for share in shares[length, depth]])
        rows.append([length, *(f"{100 * share:.0f}" for share in row), everywhere])
    columns = {"tokens": 0, **{f"depth {depth:g} %": 0 for depth in depths}, "all depths": 0}
    notes = [
        f"Answers (%) that tell the number, {trials} trials a cell, all in the encoder, chunks of about {CHUNK} tokens"
        " that end with a sentence; 95 % intervals over trials.",
        *(
            f"{count} of {len(depths) * trials} haystacks of {length} tokens are shorter by more than"
            f" {100 - 100 * FULL:.0f} %: the text has too few sentences that fit."
            for length, count in short.items()
            if count
        ),
    ]
    return Table(columns, rows, notes), grid


def make_needle(trial: int) -> Needle:
    """Another number for every trial, of another city for as many as there are."""
    city = CITIES[trial % len(CITIES)]
    number = str(random.Random(trial).randint(10_000, 99_999))
    return Needle(f"The secret number of {city} is {number}.", f"What is the secret number of {city}?", number)


def found(number: str, answer: str) -> bool:
    """Whether the answer tells the number, as digits that stand for themselves, perhaps with commas between them."""
    return number in re.findall(r"\d+", re.sub(r"(?<=\d),(?=\d)", "", answer))


def read_sentences(documents: Path, tokenizer: PreTrainedTokenizerFast, *, tokens: int) -> Sentences:
    """The documents' first sentences: four times as many tokens as asked for, so that haystacks differ, or all.

    Raises:
        CorpusError: there are fewer than `tokens`.
    """
    sentences = Sentences([], [])
    for text in read_texts(documents):
        pieces = list(split_sentences(text))
        sentences.texts.extend(pieces)
        sentences.tokens.extend(len(ids) for ids in plain_ids(tokenizer, [f" {piece}" for piece in pieces]))
        if sum(sentences.tokens) >= 4 * tokens:
            break
    if sum(sentences.tokens) < tokens:
        raise CorpusError(f"{documents} has {sum(sentences.tokens)} tokens, too few for a haystack of {tokens}")
    return sentences


def split_sentences(text: str) -> list[str]:
    """The sentences, each on one line and of at most 50 words; together they have all the text's words in order."""
    pieces: list[str] = []
    for start, end in sentence_spans(text):
        words = text[start:end].split()
        pieces.extend(" ".join(words[first : first + MOST_WORDS]) for first in range(0, len(words), MOST_WORDS))
    return pieces


def hide(
    needle: str,
    hay: Sentences,
    tokenizer: PreTrainedTokenizerFast,
    *,
    length: int,
    depth: float,
    seed: int,
) -> list[Passage]:
    """Passages of whole sentences, one of which is the needle.

    Args:
        needle: a sentence.
        hay: the text, read from some sentence on and from its beginning again where it ends.
        tokenizer: the reader's.
        length: tokens at most, the needle's included; a sentence that does not fit ends a haystack that is `FULL`,
            and else is passed over.
        depth: 0 puts the needle first, 1 last.
        seed: chooses where in the text the haystack begins.
    """
    own = len(plain_ids(tokenizer, [f" {needle}"])[0])
    start = random.Random(seed).randrange(len(hay.texts))
    chosen: list[tuple[str, int]] = []
    total = own
    for number in range(len(hay.texts)):
        place = (start + number) % len(hay.texts)
        if total + hay.tokens[place] <= length:
            chosen.append((hay.texts[place], hay.tokens[place]))
            total += hay.tokens[place]
        elif total >= FULL * length:
            break
    before = [0, *accumulate(tokens for _, tokens in chosen)]
    at = min(range(len(before)), key=lambda place: abs(before[place] - depth * before[-1]))
    chosen.insert(at, (needle, own))
    passages: list[list[str]] = [[]]
    size = 0
    for text, tokens in chosen:
        if passages[-1] and size + tokens > CHUNK:
            passages.append([])
            size = 0
        passages[-1].append(text)
        size += tokens
    return [_passage(number, " ".join(texts)) for number, texts in enumerate(passages)]


def _passage(number: int, text: str) -> Passage:
    return Passage(f"haystack#{number}", "haystack", "", text, number, 0, len(text), "haystack")
