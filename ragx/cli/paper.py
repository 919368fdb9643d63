"""`ragx eval paper TABLE`: the paper's tables with its protocols. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragx.cli.options import Json, with_settings
from ragx.errors import ConfigError
from ragx.evaluation.paper.options import (
    ContestOptions,
    NeedleOptions,
    Table1Options,
    Table2Options,
    Table3Options,
    Table4Options,
    Table7Options,
)
from ragx.types import SearchMethod
from ragx.util.terminal import notice

if TYPE_CHECKING:
    from ragx.evaluation.paper.contest import Contest
    from ragx.evaluation.tables import Table
    from ragx.retrieval import Retriever
    from ragx.types import Embedder

app = typer.Typer(no_args_is_help=True, help="The paper's tables, several models and readers in each (docs/paper.md).")

Models = Annotated[
    list[str],
    typer.Option("--model", help="Name, folder or Hub id; NAME@yarn:16 stretches its positions. May be repeated."),
]
Method = Annotated[SearchMethod, typer.Option(help="dense, bm25, or hybrid: both, fused by reciprocal rank.")]
Documents = Annotated[list[Path], typer.Option(help="A data set: a file, folder or recipe. May be repeated.")]


@app.command()
@with_settings
def table1(
    model: Models,
    documents: Documents,
    windows: Table1Options,
    options: ContestOptions = ContestOptions(limit=5000),  # noqa: B008  (immutable)
    as_json: Json = False,
) -> None:
    """Perplexity of long documents by tokens of context."""
    from ragx.evaluation.paper.table1 import curves, evaluate
    from ragx.evaluation.plot import draw_curves

    picture = _picture(options)
    contest = _contest("table1", model, options)
    table = evaluate(contest, documents, windows, _embedder(options))
    _print(table, options, as_json)
    if picture is not None and table.rows:
        draw_curves(picture, curves(table))


@app.command()
@with_settings
def table3(
    model: Models,
    train: Annotated[
        list[Path], typer.Option(help="Demonstrations: JSON lines with text and label. One for each --test.")
    ],
    test: Annotated[list[Path], typer.Option(help="Texts to classify: JSON lines with text and label.")],
    prompts: Table3Options,
    options: ContestOptions = ContestOptions(reader="cepe,full", limit=250),  # noqa: B008  (immutable)
    as_json: Json = False,
) -> None:
    """Accuracy of in-context learning."""
    from ragx.evaluation.paper.table3 import evaluate

    if len(train) != len(test):
        raise ConfigError(f"give as many --train as --test, got {len(train)} and {len(test)}")
    contest = _contest("table3", model, options)
    _print(evaluate(contest, list(zip(train, test, strict=True)), prompts), options, as_json)


@app.command()
@with_settings
def table4(
    model: Models,
    data: Annotated[
        list[str],
        typer.Option(help="TASK=FILE: JSON lines with input, question and answers (docs/paper.md). May be repeated."),
    ],
    texts: Table4Options,
    options: ContestOptions = ContestOptions(reader="cepe,full", limit=500),  # noqa: B008  (immutable)
    as_json: Json = False,
) -> None:
    """Questions and summaries of long texts (ZeroSCROLLS)."""
    from ragx.evaluation.paper.table4 import evaluate

    _print(evaluate(_contest("table4", model, options), data, texts), options, as_json)


@app.command()
@with_settings
def needle(
    model: Models,
    documents: Annotated[Path, typer.Option(help="The haystack: a file, folder or recipe, such as essays.")],
    haystacks: NeedleOptions,
    options: ContestOptions = ContestOptions(reader="cepe,full"),  # noqa: B008  (immutable)
    as_json: Json = False,
) -> None:
    """ROUGE-1 of a sentence found in a long text (Figure 4)."""
    from ragx.evaluation.paper.needle import evaluate
    from ragx.evaluation.plot import ROUGE, draw_grids

    picture = _picture(options)
    table, grids = evaluate(_contest("needle", model, options), documents, haystacks)
    _print(table, options, as_json)
    if picture is not None and grids:
        draw_grids(picture, grids, ROUGE)


@app.command()
@with_settings
def table6(
    model: Models,
    documents: Documents,
    windows: Table1Options = Table1Options(tokens="8192", strides="1,2048"),  # noqa: B008  (immutable)
    options: ContestOptions = ContestOptions(reader="streaming", limit=5000),  # noqa: B008  (immutable)
    as_json: Json = False,
) -> None:
    """Perplexity of long documents by StreamingLLM's stride."""
    from ragx.evaluation.paper.table1 import evaluate

    contest = _contest("table1", model, options)  # the raw results of either table serve the other
    _print(evaluate(contest, documents, windows, _embedder(options)), options, as_json)


@app.command()
@with_settings
def table2(
    model: Models,
    documents: Annotated[
        list[Path],
        typer.Option(help="JSON lines with text, and optionally domain and passages (docs/paper.md). May be repeated."),
    ],
    excerpts: Table2Options,
    options: ContestOptions = ContestOptions(reader="cepe,full,replug"),  # noqa: B008  (immutable)
    index: Annotated[Path | None, typer.Option(help="Index to retrieve passages from, if rows have none.")] = None,
    method: Method = "dense",
    as_json: Json = False,
) -> None:
    """Perplexity with retrieved passages."""
    from ragx.evaluation.paper.table2 import evaluate

    retriever, run = (None, {}) if index is None else _retriever(index, method, options)
    contest = _contest("table2", model, options, **run)
    weigher = _embedder(options) if retriever is None else retriever.embedder
    _print(evaluate(contest, documents, excerpts, retriever, method, weigher), options, as_json)


@app.command()
@with_settings
def table7(
    model: Models,
    questions: Annotated[
        list[Path],
        typer.Option(help="Questions with answers and ctxs, JSON or JSON lines (docs/paper.md). May be repeated."),
    ],
    prompts: Table7Options,
    options: ContestOptions,
    demonstrations: Annotated[
        list[Path] | None,
        typer.Option(help="A training set for each --questions. Default: its own other questions."),
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Index to retrieve documents from, if questions have none.")
    ] = None,
    method: Method = "dense",
    as_json: Json = False,
) -> None:
    """Exact match in open-domain question answering."""
    from ragx.evaluation.paper.table7 import evaluate

    if demonstrations and len(demonstrations) != len(questions):
        raise ConfigError(f"give as many --demonstrations as --questions, or none, got {len(demonstrations)}")
    retriever, run = (None, {}) if index is None else _retriever(index, method, options)
    contest = _contest("table7", model, options, **run)
    sources = list(zip(questions, demonstrations or questions, strict=True))
    _print(evaluate(contest, sources, prompts, retriever, method), options, as_json)


@app.command()
def convert(
    shards: Annotated[Path, typer.Argument(help="Folder of MDS shards, or of folders of them, a domain each.")],
    out: Annotated[Path, typer.Option(help="File to write (JSON lines).")],
) -> None:
    """Turn the authors' MDS shards of token ids into documents for tables 1 and 2; nothing is unpickled."""
    from ragx.evaluation.paper.mds import convert

    notice(f"{convert(shards, out):,} sequences in {out}")


def _retriever(index: Path, method: SearchMethod, options: ContestOptions) -> tuple[Retriever, dict[str, str]]:
    """The retriever, and what tells its results from those of another index or method."""
    from ragx.retrieval import open_index

    retriever = open_index(index, method=method, device=options.device).retriever
    manifest = retriever.index.manifest
    return retriever, {"index": f"{len(retriever.index)} passages, {manifest.created}", "method": method}


def _contest(table: str, models: list[str], options: ContestOptions, **run: Any) -> Contest:
    """The models and readers to compare; `run` tells their raw results from those of other data or settings."""
    from ragx.evaluation.paper.contest import Contest, parse_readers
    from ragx.evaluation.results import Results

    results = Results(options.out, {"task": f"paper, {table}", **run})
    return Contest(models, parse_readers(options.reader), options, results)


def _embedder(options: ContestOptions) -> Embedder | None:
    from ragx.retrieval import open_embedder

    if options.embedder == "none" or "replug" not in options.reader:
        return None
    return open_embedder(options.embedder, device=options.device)


def _picture(options: ContestOptions) -> Path | None:
    """Where `--save` draws the table; None, with a notice, if it cannot be drawn."""
    from ragx.evaluation.plot import check_plot

    if options.save is None:
        return None
    options.save.parent.mkdir(parents=True, exist_ok=True)
    picture = options.save.with_name(options.save.name + ".png")
    try:
        check_plot(picture)
    except ConfigError as error:
        notice(f"{picture} is left out: {error}")
        return None
    return picture


def _print(table: Table, options: ContestOptions, as_json: bool) -> None:
    if options.save is not None:
        table.save(options.save)
    print(json.dumps(table.values(), indent=2) if as_json else table.markdown())
