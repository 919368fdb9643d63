"""`ragx eval rerank|retrieval|recall`, which measure the search alone, and what other evaluations share with them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragx.cli.options import Device, Dtype, Json, setting, with_settings
from ragx.config import LATE, RERANK, LoadOptions, ModelOptions, SearchOptions, reader_reranker
from ragx.types import Effort, SearchMethod
from ragx.util.settings import checked

if TYPE_CHECKING:
    from ragx.evaluation.tables import Table
    from ragx.retrieval import Retriever, SearchResults
    from ragx.retrieval.rerankers import Reranker
    from ragx.types import Hit

Out = Annotated[Path | None, typer.Option(help="File for raw results (JSON lines); an interrupted run continues it.")]
Method = Annotated[SearchMethod, setting(SearchOptions, "method")]


def compare_rerankers(
    questions: Annotated[Path, typer.Option(help="JSON lines with question and answers, compressed or not.")],
    index: Annotated[Path, typer.Option(help="Index to search.")],
    rerank: Annotated[list[str], typer.Option(help="A reranker, as in `ragx search`; can be repeated.")],
    depth: Annotated[
        int | None, typer.Option(min=1, help="First hits that are reranked. Default: the reranker's.")
    ] = None,
    method: Method = "hybrid",
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of questions, spread over the file.")] = None,
    out: Out = None,
    as_json: Json = False,
    device: Device = None,
    dtype: Dtype = "auto",
) -> None:
    """Answer in the first 1, 3, 5 and 10 passages, and the time added, without and with rerankers."""
    from ragx.evaluation.questions import read_questions, spread
    from ragx.evaluation.reranking import evaluate
    from ragx.evaluation.results import Results
    from ragx.reader.reranking import open_reranker

    rows = spread(read_questions(questions), limit)
    retriever, run = open_searched(index, method, device, dtype)
    names = [name for name in dict.fromkeys(rerank) if name != "none"]
    embedder = retriever.index.manifest.embedder.name
    rerankers = [each for name in names if (each := open_reranker(name, device, embedder)) is not None]
    for each in rerankers:
        each.depth = depth or each.depth
    depths = {weights(each.name): each.depth for each in rerankers}
    results = Results(out, {"task": "rerank", **run, "rerank": depths})
    show(evaluate(rows, lambda question, k: retriever.search(question, k, method), rerankers, results), as_json)


def judged_retrieval(
    queries: Annotated[Path, typer.Option(help="JSON lines with id and question or text, or lines of id, tab, text.")],
    qrels: Annotated[Path, typer.Option(help="Judgements in the layout of TREC or BEIR.")],
    index: Annotated[Path, typer.Option(help="Index to search.")],
    method: Annotated[list[str], typer.Option(help="As in `ragx search`; can be repeated.")] = ["hybrid"],  # noqa: B006
    rerank: Annotated[list[str], typer.Option(help="As in `ragx search`; can be repeated.")] = [RERANK],  # noqa: B006
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Passages to retrieve.")] = 200,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of queries.")] = None,
    out: Out = None,
    as_json: Json = False,
    device: Device = None,
    dtype: Dtype = "auto",
) -> None:
    """NDCG, reciprocal rank, average precision and recall against judgements (qrels)."""
    from ragx.evaluation.results import Results
    from ragx.evaluation.retrieval import evaluate, read_qrels, read_queries
    from ragx.reader.reranking import open_reranker
    from ragx.retrieval.rerankers import search_reranked

    methods = [checked(SearchOptions, {"method": each}).method for each in dict.fromkeys(method)]
    texts, judgements = read_queries(queries), read_qrels(qrels)
    needed: SearchMethod = "bm25" if methods == ["bm25"] else "hybrid"
    retriever, run = open_searched(index, needed, device, dtype)
    embedder = retriever.index.manifest.embedder.name
    rerankers = [open_reranker(name, device, embedder) for name in dict.fromkeys(rerank)]

    def search(query: str, method: SearchMethod, reranker: Reranker | None) -> SearchResults[Hit]:
        return search_reranked(lambda k: retriever.search(query, k, method), query, k, reranker)

    searches = {
        f"{each}, {reranker.name}" if reranker else each: partial(search, method=each, reranker=reranker)
        for each in methods
        for reranker in rerankers
    }
    results = Results(out, {"task": "retrieval", **run, "k": k})
    limited = dict(list(texts.items())[:limit])
    show(evaluate(limited, judgements, searches, results, k=k), as_json)


@with_settings
def full_recall(
    questions: Annotated[list[Path], typer.Option(help="JSON lines with question and gold passages; can be repeated.")],
    index: Annotated[Path, typer.Option(help="Index to search.")],
    load: LoadOptions,
    effort: Annotated[list[str], typer.Option(help="As in `ragx search`; can be repeated.")] = ["low", "medium"],  # noqa: B006
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Passages to retrieve.")] = 60,
    method: Method = "hybrid",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of questions, spread over each file.")
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Questions all of whose gold passages are found, by their number and by effort; high needs the model."""
    from ragx.cli.setup import opened_model
    from ragx.evaluation.full_recall import evaluate
    from ragx.evaluation.questions import read_questions, spread
    from ragx.evaluation.results import Results
    from ragx.reader.conversation import question_text
    from ragx.reader.splitting import split_question
    from ragx.retrieval import search_with_effort

    efforts = [checked(SearchOptions, {"effort": each}).effort for each in dict.fromkeys(effort)]
    rows = [question for path in questions for question in spread(read_questions(path), limit)]
    retriever, run = open_searched(index, method, load.device, load.dtype)
    model = {"model": load.model} if "high" in efforts else {}
    results = Results(out, {"task": "recall", **run, "k": k, **model})
    with ExitStack() as stack:
        readers = stack.enter_context(opened_model(ModelOptions(**load.model_dump()))).readers if model else {}

        def search(question: str, effort: Effort) -> SearchResults[Hit]:
            queries, split = [question_text(question)], partial(split_question, readers)
            return search_with_effort(retriever, queries, k, effort=effort, method=method, split=split)

        searches = {each: partial(search, effort=each) for each in efforts}
        show(evaluate(rows, retriever.index, searches, results, k=k), as_json)


def open_searched(
    index: Path, method: SearchMethod, device: str | None, dtype: str
) -> tuple[Retriever, dict[str, str]]:
    """The retriever, and what tells its results from those of another index or method."""
    from ragx.retrieval import open_index

    retriever = open_index(index, method=method, device=device, dtype=dtype).retriever
    total = f"{len(retriever.index)} passages indexed at {retriever.index.manifest.created}"
    return retriever, {"index": total, "method": method}


def weights(rerank: str, load: LoadOptions | None = None) -> str:
    """What tells a reranker from another one; `load`: the reader in use."""
    from ragx import models
    from ragx.models.check import PROJECTION
    from ragx.util.files import sha256

    if (found := reader_reranker(rerank)) is not None:
        reader = models.resolve(found[1] or (LoadOptions() if load is None or load.is_remote else load).model)
        projection = [sha256(reader / PROJECTION)] if found[0] == LATE else []
        return " ".join([found[0], models.fingerprint(reader), *projection])
    return rerank if "://" in rerank else models.fingerprint(models.resolve(rerank, "reranker"))


def show(table: Table, as_json: bool) -> None:
    """Print a table."""
    print(json.dumps(table.values(), indent=2) if as_json else table.markdown())
