"""`ragx eval mine`: an evaluation on one's own passages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragx.cli.eval_search import Out, show, weights
from ragx.cli.options import IndexFolder, Json, Offline, with_settings
from ragx.config import ModelOptions, ReaderOptions, SamplingParams, SearchOptions
from ragx.errors import ConfigError

if TYPE_CHECKING:
    from ragx.evaluation.results import Values
    from ragx.rag import RAG


@with_settings
def mine(
    search: SearchOptions,
    reader_options: ReaderOptions,
    sampling: SamplingParams,
    models: ModelOptions,
    index: IndexFolder = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="JSON lines with question and answers; if there is no such file, the model writes it."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of questions. Default: all of the file, or 50 to write.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="RESULTS", help="Compare with another run's --out, paired by question.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the shares as this PNG file.")] = None,
    out: Out = None,
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Search, citations, answers, refusals and time on questions about your own passages, with the options of `ask`."""
    from ragx.cli.setup import opened_rag
    from ragx.evaluation.own_passages import DRAWN, TASK, draw, draw_questions, evaluate, read_run, table
    from ragx.evaluation.plot import check_plot
    from ragx.evaluation.questions import read_questions, spread
    from ragx.evaluation.results import Results
    from ragx.reader.registry import for_reader

    if questions is None and (out is not None or against is not None):
        raise ConfigError("--out and --against need --questions: runs are continued and compared by their questions")
    if plot is not None:
        check_plot(plot)
    other = None if against is None else read_run(against)
    rows = spread(read_questions(questions), limit) if questions is not None and questions.exists() else []
    models = for_reader(models, reader_options.reader)
    with opened_rag(index, models, search) as rag:
        run = {"task": TASK} | identity(rag, search, reader_options, sampling, models) | index_identity(rag)
        results = Results(out, run)
        asked = rows or draw_questions(
            rag, search.where, questions, count=limit or DRAWN, max_tokens=sampling.max_new_tokens
        )
        measured = evaluate(rag, asked, results, k=search.k, options=reader_options, sampling=sampling)
    shown = table(run, measured, other)
    if plot is not None:
        draw(plot, shown)
    show(shown, as_json)


def identity(
    rag: RAG, search: SearchOptions, reader_options: ReaderOptions, sampling: SamplingParams, models: ModelOptions
) -> Values:
    """What tells the results of this run from those of another one."""
    from ragx.reader.base import choose_reader

    settings = [each.model_dump(mode="json") for each in (search, reader_options, sampling)]
    return {
        "model": models.model,
        "weights": choose_reader(rag.readers, reader_options.reader).fingerprint(),
        "loaded": models.model_dump(mode="json", exclude_defaults=True, exclude={"model"}),
        **{name: value for values in settings for name, value in values.items()},
        "rerank": weights(rag.reranker.name, models) if rag.reranker else None,
    }


def index_identity(rag: RAG) -> Values:
    """What tells its index from another one."""
    index = rag.retriever.index
    return {"index": f"{len(index)} passages indexed at {index.manifest.created}"}
