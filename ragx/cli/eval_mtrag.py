"""`ragx eval mtrag`: the next turn of MTRAG's conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragx.cli.eval_mine import identity, index_identity
from ragx.cli.eval_search import Out, show
from ragx.cli.options import Json, Offline, with_settings
from ragx.config import ModelOptions, ReaderOptions, SamplingParams, SearchOptions
from ragx.errors import ConfigError


@with_settings
def mtrag(
    search: SearchOptions,
    reader_options: ReaderOptions,
    sampling: SamplingParams,
    models: ModelOptions,
    tasks: Annotated[Path, typer.Option(help="MTRAG's tasks: JSON lines with input, contexts and targets.")],
    index: Annotated[
        Path | None,
        typer.Option(help="Index to search. Default: the tasks' own contexts."),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write the tasks with predictions, for the benchmark's own judges.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of tasks, spread over the file.")] = None,
    out: Out = None,
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Answer the last turn of conversations about passages, answerable or not, with the options of `ask`."""
    from ragx.cli.setup import opened_model, opened_rag
    from ragx.evaluation.mtrag import TASK, evaluate, read_tasks, save_predictions, table
    from ragx.evaluation.questions import spread
    from ragx.evaluation.results import Results
    from ragx.reader.registry import for_reader

    turns = spread(read_tasks(tasks), limit)
    if index is None and not any(turn.hits for turn in turns):
        raise ConfigError(f"no task in {tasks} has contexts: give an --index to search")
    models = for_reader(models, reader_options.reader)
    with opened_model(models) if index is None else opened_rag(index, models, search) as rag:
        run = {"task": TASK} | identity(rag, search, reader_options, sampling, models)
        results = Results(out, run if index is None else run | index_identity(rag))
        k = None if index is None else search.k
        measured = evaluate(rag, turns, results, k=k, options=reader_options, sampling=sampling)
    if predictions is not None:
        save_predictions(predictions, turns, measured)
    show(table(turns, measured), as_json)
