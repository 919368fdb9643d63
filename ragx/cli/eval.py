"""`ragx eval mine|mtrag|lm|qa|rerank|retrieval|recall|needle|copy`: a table on stdout, progress on stderr.

Heavy imports happen inside the commands.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragx.cli.eval_mine import mine
from ragx.cli.eval_mtrag import mtrag
from ragx.cli.eval_search import (
    Method,
    Out,
    compare_rerankers,
    full_recall,
    judged_retrieval,
    open_searched,
    show,
    weights,
)
from ragx.cli.options import Json, Rerank, with_settings
from ragx.cli.paper import app as paper_app
from ragx.config import RERANK, EncodingOptions, LoadOptions
from ragx.errors import ConfigError
from ragx.types import ReaderName, SearchMethod
from ragx.util.terminal import notice, waiting

if TYPE_CHECKING:
    from ragx.evaluation.results import Results
    from ragx.reader.base import Reader
    from ragx.reader.cepe import CepeReader
    from ragx.retrieval import Retriever
    from ragx.retrieval.rerankers import Reranker

Documents = Annotated[Path, typer.Option(help="A file or folder of any known format, or an index recipe (.yaml).")]
Each = Annotated[int, typer.Option(min=1, help="Excerpts per document.")]
MaxDocuments = Annotated[int | None, typer.Option("--limit", min=1, help="Maximum number of documents.")]
_row_option = partial(typer.Option, rich_help_panel="Rows of the table")
ENCODER_TOKENS, KS = "0,2048,6144,30720", "0,8,20,50"
"""Defaults of `lm`."""

app = typer.Typer(
    no_args_is_help=True, help="Measure on your own passages, on tasks after the paper's, and the paper's tables."
)
app.add_typer(paper_app, name="paper")
app.command()(mine)
app.command()(mtrag)
app.command("rerank")(compare_rerankers)
app.command("retrieval")(judged_retrieval)
app.command("recall")(full_recall)


@app.command()
@with_settings
def lm(
    documents: Documents,
    load: LoadOptions,
    index: Annotated[Path | None, typer.Option(help="Measure with passages retrieved from this index.")] = None,
    decoder_tokens: Annotated[int, typer.Option(help="Tokens in the decoder; the last 256 are scored.")] = 2048,
    encoder_tokens: Annotated[
        str | None, typer.Option(help="Earlier tokens in the encoder, one row each.", show_default=ENCODER_TOKENS)
    ] = None,
    ratio: Annotated[
        str | None, typer.Option(help="extensible: tokens for each embedding, rows. Default: those in its training.")
    ] = None,
    k: Annotated[
        str | None, typer.Option("--k", "-k", help="With --index: passages to retrieve, one row each.", show_default=KS)
    ] = None,
    method: Method = "hybrid",
    rerank: Rerank = RERANK,
    each: Each = 1,
    limit: MaxDocuments = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Perplexity with a long document, or retrieved passages, in the encoder (after Tables 1 and 2)."""
    from ragx.evaluation import long_documents, retrieved

    if index is None and k is not None:
        raise ConfigError("--k requires --index")
    if index is not None and (encoder_tokens is not None or ratio is not None):
        raise ConfigError("--encoder-tokens and --ratio cannot be used with --index: use --k")
    if index is None:
        counts = _numbers("encoder-tokens", ENCODER_TOKENS if encoder_tokens is None else encoder_tokens)
        reader = _open_reader(load, scores=True)
        table = long_documents.evaluate(
            reader,
            documents,
            _results(reader, load, out, task="lm, long documents"),
            decoder_tokens=decoder_tokens,
            encoder_tokens=counts,
            ratios=() if ratio is None else _numbers("ratio", ratio),
            each=each,
            limit=limit,
        )
    else:
        counts = _numbers("k", KS if k is None else k)
        retriever, reranker, identity = _open_retriever(index, method, rerank, load)
        reader = _open_reader(load, scores=True)
        table = retrieved.evaluate(
            reader,
            documents,
            retriever,
            method,
            _results(reader, load, out, task="lm, retrieved passages", **identity),
            decoder_tokens=decoder_tokens,
            ks=counts,
            each=each,
            limit=limit,
            reranker=reranker,
        )
    show(table, as_json)


@app.command()
@with_settings
def qa(
    questions: Annotated[Path, typer.Option(help="JSON lines with question and answers, compressed or not.")],
    load: EncodingOptions,
    index: Annotated[Path | None, typer.Option(help="Index to retrieve passages from.")] = None,
    given: Annotated[bool, typer.Option("--given", help="The questions' own passages, such as HELMET's.")] = False,
    gold_only: Annotated[bool, typer.Option("--gold-only", help="Gold passages in the encoder; no index.")] = False,
    cepe_k: Annotated[str, _row_option(help="Passages that cepe reads, one row each.")] = "10,20,30,60",
    full_k: Annotated[str, _row_option(help="Passages in the plain decoder's prompt, one row each.")] = "5,10,20",
    prompt_passages: Annotated[
        str, _row_option(help="cepe's passages that also stand in its prompt, one row each.")
    ] = "10",
    distractors: Annotated[str, _row_option(help="With --gold-only: random passages added, one row each.")] = "0,9",
    method: Method = "hybrid",
    rerank: Rerank = RERANK,
    within: Annotated[
        float | None,
        typer.Option(min=0, help="Of the k passages, those reranked at most this much below the best. Default: all."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of questions, spread over the file.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Exact match and F1 of answers from retrieved or given passages (after Table 7), or from the encoder alone."""
    from ragx.evaluation.qa import GIVEN, open_domain, searched
    from ragx.evaluation.qa import gold_only as evaluate_gold_only
    from ragx.evaluation.questions import read_questions, spread
    from ragx.util.files import sha256

    if [index is not None, gold_only, given].count(True) != 1:
        raise ConfigError("give one of --index, --given and --gold-only")
    rows = read_questions(questions)
    identity = {"questions": f"{len(rows)} questions, SHA-256 {sha256(questions)[:16]}"}
    if gold_only:
        counts = _numbers("distractors", distractors)
        with_gold = [question for question in rows if question.gold]
        if len(with_gold) < len(rows):
            notice(f"{len(rows) - len(with_gold)} questions without a gold passage are left out")
        if not with_gold:
            raise ConfigError(f"no question in {questions} has a gold passage")
        reader = _open_reader(load)
        # distractors come from the whole file, so that --limit does not change results
        results = _results(reader, load, out, task="qa, gold only", **identity)
        table = evaluate_gold_only(reader, spread(with_gold, limit), rows, results, counts=counts)
    else:
        cepe_counts, full_counts = _numbers("cepe-k", cepe_k), _numbers("full-k", full_k)
        in_prompt = _numbers("prompt-passages", prompt_passages)
        if index is None:
            if not any(question.passages for question in rows):
                raise ConfigError(f"no question in {questions} has passages: give an --index to search")
            source, task = GIVEN, "qa, given passages"
        else:
            retriever, reranker, identity = _open_retriever(index, method, rerank, load)
            source, task = searched(retriever, method, reranker, within), "qa"
            if within is not None:  # earlier results name none
                identity["within"] = str(within)
        readers = _open_readers(load)
        table = open_domain(
            readers,
            spread(rows, limit),
            source,
            _results(next(iter(readers.values())), load, out, task=task, **identity),
            cepe_k=cepe_counts,
            full_k=full_counts,
            prompt_passages=in_prompt,
        )
    show(table, as_json)


@app.command()
@with_settings
def needle(
    documents: Documents,
    load: LoadOptions,
    lengths: Annotated[str, typer.Option(help="Tokens of haystack, one row each.")] = "1024,2048,4096,8192,16384,32768",
    depths: Annotated[str, typer.Option(help="Positions of the needle, in percent.")] = "0,25,50,75,100",
    limit: Annotated[int, typer.Option(min=1, help="Trials per length and depth.")] = 8,
    plot: Annotated[Path | None, typer.Option(help="Draw the grid as this PNG file.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Find one sentence in a long text that only the encoder reads (after appendix D)."""
    from ragx.evaluation.needle import evaluate, read_sentences
    from ragx.evaluation.plot import FOUND, Grid, check_plot, draw_grids

    sizes, places = _numbers("lengths", lengths), _numbers("depths", depths)
    if plot is not None:
        check_plot(plot)
    reader = _open_reader(load)
    hay = read_sentences(documents, reader.tokenizer, tokens=max(sizes))
    results = _results(reader, load, out, task="needle", haystack=hay.identity)
    table, grid = evaluate(reader, hay, results, lengths=sizes, depths=places, trials=limit)
    if plot is not None:
        draw_grids(plot, [Grid("needles found", sizes, places, grid)], FOUND)
    show(table, as_json)


@app.command()
@with_settings
def copy(
    documents: Documents,
    load: LoadOptions,
    each: Each = 4,
    limit: MaxDocuments = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Copy unseen text that only the encoder reads: loss and top-1 accuracy (after the paper's warmup, A.2)."""
    from ragx.evaluation.copying import evaluate

    reader = _open_reader(load, scores=True)
    show(evaluate(reader, documents, _results(reader, load, out, task="copy"), each=each, limit=limit), as_json)


def _numbers(option: str, text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        raise ConfigError(f"--{option} must be whole numbers such as 10,20, got {text!r}") from None


@cache
def _open_reader(load: LoadOptions, *, scores: bool = False) -> CepeReader:
    """The reader; with `scores`, on a backend that scores text."""
    from ragx.models import resolve
    from ragx.reader.loading import open_reader

    if scores and load.backend == "auto":
        load = load.model_copy(update={"backend": "torch"})
    resolve(load.model)  # a download shows its own progress
    with waiting("loading models …"):
        reader = open_reader(EncodingOptions(**load.model_dump()))
    if not reader.model.is_trained and getattr(reader.model, "extensible", None) is None:
        notice(f"the reader around {load.model} is untrained: passages in its encoder change nothing")
    return reader


def _open_readers(load: LoadOptions) -> dict[ReaderName, Reader]:
    from ragx.reader.chat import open_chat_reader
    from ragx.reader.full import FullReader

    if load.is_remote:
        return {"full": open_chat_reader(load)}
    cepe = _open_reader(load)
    return {"cepe": cepe, "full": FullReader(cepe.model, cepe.tokenizer)}


def _results(reader: Reader, load: LoadOptions, out: Path | None, **run: Any) -> Results:
    from ragx.evaluation.results import Results

    weights = reader.fingerprint() if out is not None else ""
    return Results(out, {"model": load.model, "weights": weights, **run})


def _open_retriever(
    index: Path, method: SearchMethod, rerank: str, load: LoadOptions
) -> tuple[Retriever, Reranker | None, dict[str, str]]:
    """The retriever, the reranker, and what tells their results from those of another index, method or reranker."""
    from ragx.reader.reranking import open_reranker

    retriever, identity = open_searched(index, method, load.device, load.dtype)
    embedder = retriever.index.manifest.embedder.name
    reranker = open_reranker(rerank, load.device, embedder, lambda: None if load.is_remote else _open_reader(load))
    if reranker is not None:  # results of earlier runs name none
        identity["rerank"] = weights(reranker.name, load)
    return retriever, reranker, identity
