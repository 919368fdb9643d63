"""Needle in a haystack (Kamradt, 2024; paper appendix D): find one sentence in a long text in the encoder."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
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

if TYPE_CHECKING:
    from ragx.evaluation.results import Results, Values
    from ragx.util.tokenization import Tokenizer

SAMPLING = SamplingParams(max_new_tokens=32)
CHUNK = 256
"""Tokens per passage in the encoder, unless one sentence has more."""
CITIES = ("Lisbon", "Nairobi", "Oslo", "Lima", "Hanoi", "Quebec", "Cairo", "Sydney")
FULL = 0.9
"""Share of its length that a haystack fills, unless the text has too few sentences that fit."""
MAX_WORDS = 50
"""Longer sentences, such as tables without full stops, are split."""


@dataclass(frozen=True)
class Needle:
    """The sentence hidden in one trial, and the question about it."""

    sentence: str
    question: str
    number: str


@dataclass(frozen=True)
class Sentences:
    """The sentences of a haystack, and the number of tokens in each."""

    texts: list[str]
    tokens: list[int]

    @property
    def identity(self) -> str:
        """Tells this text from others, so that their results are not mixed."""
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
    """How often the answer contains the hidden number, by the haystack's length and the needle's depth.

    Args:
        reader: the reader; only the question is in its prompt.
        hay: the haystack's text, with at least as many tokens as the largest of `lengths`.
        results: raw results, to continue.
        lengths: tokens of haystack.
        depths: the needle's position, in percent of the haystack; 0 is its beginning.
        trials: number of trials per length and depth, each with its own needle and part of the text.

    Returns:
        The table, one row per length; and the shares found, (lengths, depths).

    Raises:
        ConfigError: a number is out of range.
    """
    if min(lengths, default=0) < 1 or trials < 1:
        raise ConfigError("lengths and trials must be positive")
    if not depths or any(not 0 <= depth <= 100 for depth in depths):
        raise ConfigError("depths must be percentages from 0 to 100")
    # without a store: encodings of haystacks would evict those of other questions
    reader = CepeReader(reader.model, reader.tokenizer)

    def ask(length: int, depth: float, trial: int) -> Values:
        needle = make_needle(trial)
        passages = hide(needle.sentence, hay, reader.tokenizer, length=length, depth=depth / 100, seed=trial)
        prepared = reader.prepare(needle.question, passages, prompt_passages=0, sampling=SAMPLING)
        answer = reader.decode(prepared, SAMPLING)
        tokens = 0 if prepared.context is None else prepared.context.tokens
        found = contains_number(answer, needle.number)
        return {"number": needle.number, "answer": answer, "found": found, "tokens": tokens}

    cells = [(length, depth, trial) for length in lengths for depth in depths for trial in range(trials)]
    shares: dict[tuple[int, float], list[float]] = {(length, depth): [] for length in lengths for depth in depths}
    short = dict.fromkeys(lengths, 0)
    for length, depth, trial in tqdm(cells, desc="searching", unit=" needles"):
        values = results.measure(f"length {length} depth {depth:g}", str(trial), partial(ask, length, depth, trial))
        shares[length, depth].append(float(values["found"]))
        short[length] += values["tokens"] < FULL * length
    rows: list[list[Cell]] = []
    grid = [[sum(shares[length, depth]) / trials for depth in depths] for length in lengths]
    for length, row in zip(lengths, grid, strict=True):
        all_depths = percent([share for depth in depths for share in shares[length, depth]])
        rows.append([length, *(f"{100 * share:.0f}" for share in row), all_depths])
    columns = {"tokens": 0, **{f"depth {depth:g} %": 0 for depth in depths}, "all depths": 0}
    notes = [
        f"Answers (%) that contain the number, {trials} trials per cell; the encoder alone reads the haystack, as whole"
        f" sentences in chunks of about {CHUNK} tokens; 95 % intervals over trials.",
        *(
            f"{count} of {len(depths) * trials} haystacks of {length} tokens fall short by more than"
            f" {100 - 100 * FULL:.0f} %: the text has too few sentences that fit."
            for length, count in short.items()
            if count
        ),
    ]
    return Table(columns, rows, notes), grid


def make_needle(trial: int) -> Needle:
    """The needle of a trial: each has its own number, and the cities take turns."""
    city = CITIES[trial % len(CITIES)]
    number = str(random.Random(trial).randint(10_000, 99_999))
    return Needle(f"The secret number of {city} is {number}.", f"What is the secret number of {city}?", number)


def contains_number(answer: str, number: str) -> bool:
    """Whether the answer contains the number as a whole, with or without thousands separators."""
    return number in re.findall(r"\d+", re.sub(r"(?<=\d),(?=\d)", "", answer))


def read_sentences(documents: Path, tokenizer: Tokenizer, *, tokens: int) -> Sentences:
    """The documents' first sentences, up to four times `tokens`, so that haystacks differ.

    Raises:
        CorpusError: the documents have fewer than `tokens`.
    """
    hay = Sentences([], [])
    for text in read_texts(documents):
        sentences = list(split_sentences(text))
        hay.texts.extend(sentences)
        hay.tokens.extend(len(ids) for ids in tokenizer.plain_ids([f" {sentence}" for sentence in sentences]))
        if sum(hay.tokens) >= 4 * tokens:
            break
    if sum(hay.tokens) < tokens:
        raise CorpusError(f"{documents} has {sum(hay.tokens)} tokens, too few for a haystack of {tokens}")
    return hay


def split_sentences(text: str) -> list[str]:
    """The sentences, each on one line and with at most 50 words; together they hold all words in order."""
    pieces: list[str] = []
    for start, end in sentence_spans(text):
        words = text[start:end].split()
        pieces.extend(" ".join(words[first : first + MAX_WORDS]) for first in range(0, len(words), MAX_WORDS))
    return pieces


def hide(
    needle: str,
    hay: Sentences,
    tokenizer: Tokenizer,
    *,
    length: int,
    depth: float,
    seed: int,
) -> list[Passage]:
    """Passages of whole sentences, one of which is the needle.

    Args:
        needle: a sentence.
        hay: the text, read from a random sentence on; at its end, reading continues at its beginning.
        tokenizer: the reader's.
        length: maximum number of tokens, including the needle. A sentence that does not fit is skipped, or ends a
            haystack that is `FULL`.
        depth: 0 puts the needle first, 1 last.
        seed: chooses where in the text the haystack begins.
    """
    needle_tokens = len(tokenizer.plain_ids([f" {needle}"])[0])
    start = random.Random(seed).randrange(len(hay.texts))
    chosen: list[tuple[str, int]] = []
    total = needle_tokens
    for number in range(len(hay.texts)):
        place = (start + number) % len(hay.texts)
        if total + hay.tokens[place] <= length:
            chosen.append((hay.texts[place], hay.tokens[place]))
            total += hay.tokens[place]
        elif total >= FULL * length:
            break
    before = [0, *accumulate(tokens for _, tokens in chosen)]
    at = min(range(len(before)), key=lambda place: abs(before[place] - depth * before[-1]))
    chosen.insert(at, (needle, needle_tokens))
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
