"""Table 2: perplexity with retrieved passages, by reader and number of passages (paper section 4.1)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ragx.engine.mixture import softmax_log_weights
from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.bootstrap import macro_perplexity, perplexity
from ragx.evaluation.documents import row_ids
from ragx.evaluation.paper.contest import (
    SPEED,
    Contest,
    Contestant,
    data_name,
    nonempty,
    places,
    row_name,
    speed_cells,
)
from ragx.evaluation.paper.likelihood import by_decoder, by_replug, replug_scores
from ragx.evaluation.paper.options import Table2Options, numbers
from ragx.evaluation.results import Values
from ragx.evaluation.tables import Cell, Table
from ragx.extensible.embedder import divided
from ragx.retrieval.repeats import SPARE, repeats
from ragx.types import ReaderName, SearchMethod
from ragx.util.device import report_oom
from ragx.util.jsonlines import load_objects

if TYPE_CHECKING:
    from ragx.retrieval import Retriever
    from ragx.types import Embedder
    from ragx.util.tokenization import Tokenizer


@dataclass(frozen=True)
class Excerpt:
    """A piece of a document; its first tokens are the query, the others are scored."""

    domain: str
    document: str
    """Digest of the text and its passages."""
    start: int
    ids: list[int]
    passages: list[tuple[list[int], float | None]] | None
    """Token ids and scores, best first; None: they are retrieved."""

    @property
    def key(self) -> str:
        """Unique in a run."""
        return f"{self.domain} {self.document}:{self.start}+{len(self.ids)}"


@dataclass(frozen=True)
class Row:
    """A reader with k passages."""

    reader: ReaderName
    k: int
    settings: str
    """What else its values depend on."""
    ratio: int | None = None
    """Tokens for each embedding of `extensible`."""

    @property
    def name(self) -> str:
        """Its name in the table."""
        return row_name(self.reader, self.ratio)

    @property
    def key(self) -> str:
        """Its name in the raw results."""
        return f"{self.name} k {self.k} {self.settings}"


@report_oom()
def evaluate(
    contest: Contest,
    sources: Sequence[Path],
    options: Table2Options,
    retriever: Retriever | None = None,
    method: SearchMethod = "dense",
    embedder: Embedder | None = None,
) -> Table:
    """Measure every row on every domain, which is a column, and their macro average.

    Args:
        contest: the models, readers and raw results.
        sources: JSON lines, compressed or not, with `text` or the decoder's `ids`, and optionally a `domain` (the
            name of the file) and `passages`, best first: each a text, or an object with `text` or `ids` and `score`.
        options: what to read and score.
        retriever: finds passages for rows without them; those that repeat the excerpt are skipped.
        method: how it searches.
        embedder: weighs REPLUG's passages that have no score; None: they weigh the same.

    Raises:
        ConfigError: a number is out of range, or there are no passages.
        CorpusError: a row is malformed, or none is long enough.
    """
    if not 0 < options.query < options.tokens:
        raise ConfigError(f"query must be between 1 and {options.tokens - 1} tokens, got {options.query}")
    lines: list[list[Cell]] = []
    domains: list[str] = []
    count = 0

    def measure(contestant: Contestant) -> None:
        nonlocal domains, count
        readers = [name for name in contest.readers_of(contestant) if name != "streaming"]
        rows = [row for name in readers for row in _rows(contestant, name, options, embedder, contest)]
        if not rows:
            return
        work = partial(_nll, contestant, options, retriever, method, embedder)
        measured: list[list[tuple[Excerpt, Values]]] = [[] for _ in rows]
        excerpts = _excerpts(sources, contestant.tokenizer, options, contest.options.limit)
        for excerpt, values in contest.measure(contestant, rows, tqdm(excerpts, contestant.name), work):
            for pairs, row_values in zip(measured, values, strict=True):
                pairs.append((excerpt, row_values))
        domains = list(dict.fromkeys(excerpt.domain for excerpt, _ in measured[0]))
        count = len(measured[0])
        for row, pairs in zip(rows, measured, strict=True):
            sums = [_sums([pair for pair in pairs if pair[0].domain == domain]) for domain in domains]
            cells = [perplexity(*each) for each in sums]
            speed = speed_cells([values for _, values in pairs])
            lines.append([contestant.name, row.name, row.k, *cells, macro_perplexity(sums), *speed])

    contest.each(measure)
    notes = [
        f"Perplexity of the last {options.tokens - options.query:,} of {options.tokens:,} tokens ({count:,} excerpts);"
        f" the first {options.query} are the query. Passages of {options.passage_tokens} tokens, best first. The macro"
        " average is over domains; 95 % intervals over documents."
    ]
    columns = {"model": 0, "reader": 0, "k": 0, **dict.fromkeys(domains, 2), "macro average": 2, **SPEED}
    return Table(columns, lines, notes)


def _sums(pairs: Sequence[tuple[Excerpt, Values]]) -> tuple[list[float], list[float]]:
    """The NLLs and tokens of each document."""
    nlls, tokens = Counter[str](), Counter[str]()
    for excerpt, values in pairs:
        nlls[excerpt.document] += values["nll"]
        tokens[excerpt.document] += values["tokens"]
    return list(nlls.values()), list(tokens.values())


def _rows(
    contestant: Contestant, reader: ReaderName, options: Table2Options, embedder: Embedder | None, contest: Contest
) -> Iterator[Row]:
    size, window = options.passage_tokens, contestant.model.window
    settings = f"query {options.query} passages {size}"
    for k in numbers("k", options.k):
        if k < 0:
            raise ConfigError(f"k must not be negative, got {k}")
        weighed = f" {getattr(embedder, 'fingerprint', None)}" if reader == "replug" else ""
        for ratio in contest.ratios_of(contestant, reader) if k or reader == "full" else []:
            before = {"full": k * size, "replug": size}.get(reader, k * places(size, ratio))
            if options.tokens + before <= window or contest.options.beyond_window:
                yield Row(reader, k, settings + weighed, ratio)


def _nll(
    contestant: Contestant,
    options: Table2Options,
    retriever: Retriever | None,
    method: SearchMethod,
    embedder: Embedder | None,
    row: Row,
    excerpt: Excerpt,
) -> Values:
    ids, last, tokenizer = excerpt.ids, options.tokens - options.query, contestant.tokenizer
    query = tokenizer.decode(ids[: options.query])
    found: list[tuple[list[int], float | None]] = []
    if row.k:
        found = excerpt.passages or _retrieved(retriever, tokenizer, query, ids, row.k, method)
    passages = [passage[: options.passage_tokens] for passage, _ in found[: row.k]]
    if row.reader == "cepe":
        return by_decoder(contestant.model, ids, passages, last=last)
    if row.reader == "extensible":
        return by_decoder(contestant.model, ids, divided(contestant.model, passages[::-1]), last=last, ratio=row.ratio)
    if row.reader == "full":
        return by_decoder(contestant.model, [*chain(*passages), *ids], [], last=last)
    scores = [score for _, score in found[: row.k] if score is not None]
    if len(scores) < len(passages):
        scores = replug_scores(embedder, query, [tokenizer.decode(passage) for passage in passages])
    return by_replug(contestant.model, ids, passages, softmax_log_weights(scores), last=last)


def _retrieved(
    retriever: Retriever | None, tokenizer: Tokenizer, query: str, ids: Sequence[int], k: int, method: SearchMethod
) -> list[tuple[list[int], float | None]]:
    if retriever is None:
        raise ConfigError("the rows have no passages: give an --index to retrieve them from")
    text = tokenizer.decode(ids)
    hits = [hit for hit in retriever.search(query, k + SPARE, method) if not repeats(hit.passage.text, text)]
    texts = tokenizer.plain_ids([hit.passage.text for hit in hits])
    return [(passage, hit.score) for passage, hit in zip(texts, hits, strict=True)]


def _excerpts(
    sources: Sequence[Path], tokenizer: Tokenizer, options: Table2Options, limit: int | None
) -> Iterator[Excerpt]:
    """Excerpts that do not overlap; of a row with passages, the first.

    Raises:
        CorpusError: a row is malformed, or no row of a source is long enough.
    """
    for source in sources:
        rows = (_of_row(row, where, source, tokenizer, options) for where, row in load_objects(source))
        excerpts = islice(chain.from_iterable(rows), limit)
        yield from nonempty(excerpts, f"no text in {source} has {options.tokens:,} tokens")


def _of_row(
    row: dict[str, Any], where: str, source: Path, tokenizer: Tokenizer, options: Table2Options
) -> Iterator[Excerpt]:
    ids = _ids(row, tokenizer, where)
    given = row.get("passages")
    passages: list[tuple[list[int], float | None]] | None = None
    if given is not None:
        objects: list[dict[str, Any]] = [{"text": each} if isinstance(each, str) else each for each in given]
        passages = [(_ids(each, tokenizer, where), each.get("score")) for each in objects]
    digest = hashlib.sha256(json.dumps([ids, passages]).encode()).hexdigest()[:16]
    starts = range(0, len(ids) - options.tokens + 1, options.tokens)[: 1 if passages else options.each]
    for start in starts:
        yield Excerpt(
            str(row.get("domain") or data_name(source)), digest, start, ids[start : start + options.tokens], passages
        )


def _ids(row: dict[str, Any], tokenizer: Tokenizer, where: str) -> list[int]:
    if "ids" in row:
        return row_ids(row, where, tokenizer)
    if not isinstance(text := row.get("text"), str):
        raise CorpusError(f"{where} has neither a `text` nor a list of `ids`")
    return tokenizer.plain_ids([text])[0]
