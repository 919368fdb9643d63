"""Table 7: exact match in open-domain question answering, by reader and number of documents (paper section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.config import SamplingParams
from ragx.engine.mixture import Mixture, softmax_log_weights
from ragx.errors import ConfigError
from ragx.evaluation import metrics
from ragx.evaluation.bootstrap import percent
from ragx.evaluation.paper.beside import beside
from ragx.evaluation.paper.contest import SPEED, Contest, Contestant, places, row_name, sinks_of, speed_cells
from ragx.evaluation.paper.decoding import decode
from ragx.evaluation.paper.open_domain import (
    Document,
    Item,
    demonstrations,
    encoder_row,
    prompt_ids,
    question_block,
    read_items,
)
from ragx.evaluation.paper.options import Table7Options, numbers
from ragx.evaluation.results import Values
from ragx.evaluation.tables import Cell, Table
from ragx.reader.base import PreparedPrompt
from ragx.reader.prompt import Prompt
from ragx.types import ReaderName, SearchMethod
from ragx.util.device import report_oom

if TYPE_CHECKING:
    from ragx.retrieval import Retriever

MOST_REPLUG = 30
"""REPLUG's largest k in the paper."""


@dataclass(frozen=True)
class Row:
    """A reader with k documents."""

    reader: ReaderName
    k: int
    in_decoder: int
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
    sources: Sequence[tuple[Path, Path]],
    options: Table7Options,
    retriever: Retriever | None = None,
    method: SearchMethod = "dense",
) -> Table:
    """Measure every row on every data set, which is a column.

    Args:
        contest: the models, readers and raw results.
        sources: questions, and the questions from which demonstrations are drawn.
        options: prompts and decoding.
        retriever: finds documents for questions without them.
        method: how it searches.

    Raises:
        ConfigError: a number is out of range, or there are no documents.
        CorpusError: a file of questions cannot be read.
    """
    ks = numbers("k", options.k)
    if min(ks) < 1:
        raise ConfigError(f"k must be at least 1, got {min(ks)}")

    @lru_cache(maxsize=4096)
    def retrieved(text: str) -> list[Document]:
        if retriever is None:
            raise ConfigError(f"{text!r} has no documents: give an --index to retrieve them from")
        hits = retriever.search(text, max(ks), method)
        return [Document(hit.passage.title, hit.passage.text, hit.score) for hit in hits]

    def complete(item: Item) -> Item:
        return item if item.documents else replace(item, documents=retrieved(item.text))

    data = [(read_items(path), read_items(others)) for path, others in sources]
    pools = {items[0].source: pool for items, pool in data}
    sampling = SamplingParams(max_new_tokens=options.max_new_tokens, stop=("\n",))
    lines: list[list[Cell]] = []

    def measure(contestant: Contestant) -> None:
        rows = [row for name in contest.readers_of(contestant) for row in _rows(contest, contestant, name, ks, options)]

        def answer(row: Row, item: Item) -> Values:
            examples = [
                complete(each) for each in demonstrations(item, pools[item.source], options.shots, options.seed)
            ]
            values = decode(contestant, _prepared(contestant, row, complete(item), examples, options), sampling)
            return {"question": item.text, **values, "exact_match": metrics.exact_match(values["answer"], item.answers)}

        measured: list[list[tuple[Item, Values]]] = [[] for _ in rows]
        items = [item for each, _ in data for item in islice(each, contest.options.limit)]
        for item, values in contest.measure(contestant, rows, tqdm(items, contestant.name), answer):
            for pairs, row_values in zip(measured, values, strict=True):
                pairs.append((item, row_values))
        for row, pairs in zip(rows, measured, strict=True):
            cells = [
                percent([values["exact_match"] for item, values in pairs if item.source == source]) for source in pools
            ]
            speed = speed_cells([values for _, values in pairs])
            lines.append([contestant.name, row.name, row.k, row.in_decoder, *cells, *speed])

    contest.each(measure)
    notes = [
        f"Exact match in percent, best over a question's answers, with {options.shots} demonstrations; greedy decoding"
        f" of at most {options.max_new_tokens} tokens, up to a line break; 95 % intervals. Documents beyond the window"
        " are cut. Tokens a second count those read."
    ]
    columns = {"model": 0, "reader": 0, "k": 0, "in the decoder": 0, **dict.fromkeys(pools, 1), **SPEED}
    return Table(columns, lines, notes)


def _rows(
    contest: Contest, contestant: Contestant, reader: ReaderName, ks: Sequence[int], options: Table7Options
) -> Iterator[Row]:
    shared = f"shots {options.shots}/{options.seed} new {options.max_new_tokens} window {options.window}"
    for k in ks:
        if reader in ("cepe", "extensible"):
            inside = min(k, options.prompt_documents)
            own = f"{inside} in the decoder, {options.encode} encoded, {options.document_tokens} tokens"
            others = k if options.encode == "all" else k - inside
            for ratio in contest.ratios_of(contestant, reader):
                if others * places(options.document_tokens, ratio) <= contestant.model.window // 2:
                    yield Row(reader, k, inside, f"{shared} {own}", ratio)
        elif reader == "streaming":
            own = f"{options.sinks} {options.recent} {options.streaming_stride}"
            yield Row(reader, k, k, f"{shared} {own}")
        elif reader == "full" or (reader == "replug" and k <= MOST_REPLUG):
            yield Row(reader, k, k if reader == "full" else 1, shared)


def _prepared(
    contestant: Contestant, row: Row, item: Item, examples: Sequence[Item], options: Table7Options
) -> PreparedPrompt:
    tokenizer, model = contestant.tokenizer, contestant.model
    room = min(options.window or model.window, model.window) - options.max_new_tokens
    documents = item.documents[: row.k]
    build = partial(prompt_ids, tokenizer, item, examples)
    if row.reader == "replug":
        prompts = [build([document], room) for document in documents]
        mixture = Mixture([len(each) for each in prompts], softmax_log_weights([each.score for each in documents]))
        return PreparedPrompt(Prompt([*chain(*prompts)], len(prompts), 0), None, layout=mixture)
    if row.reader == "streaming":
        sinks = sinks_of(model, options.sinks, options.recent, options.streaming_stride)
        return PreparedPrompt(Prompt(build(documents, None), len(documents), 0), None, layout=sinks)
    others = documents if options.encode == "all" else documents[row.in_decoder :]
    if row.reader == "full" or not others:
        return PreparedPrompt(Prompt(build(documents[: row.in_decoder], room), row.in_decoder, 0), None)
    most = options.document_tokens if row.ratio else min(options.document_tokens, model.encoder_window)
    passages = [encoder_row(tokenizer, document, most) for document in others]
    if row.ratio:
        passages.reverse()  # the best one is next to the prompt
        room -= sum(places(len(passage), row.ratio) for passage in passages)
    ids = build(documents[: row.in_decoder], room)
    question_start = len(ids) - len(tokenizer.plain_ids([question_block(item)])[0])
    prompt = Prompt(ids, row.in_decoder, question_start)
    return beside(model, prompt, passages, row.ratio, prompted=bool(row.in_decoder))
