"""`ragx eval lm|qa|needle|copy`: a table on stdout, progress on stderr. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragx.cli.options import Device, Dtype, Json, Model
from ragx.errors import ConfigError
from ragx.types import SearchMethod

if TYPE_CHECKING:
    from ragx.evaluation.results import Results
    from ragx.evaluation.tables import Table
    from ragx.reader.cepe import CepeReader
    from ragx.retrieval import Retriever

Out = Annotated[Path | None, typer.Option(help="File for raw results, JSON lines; a run that died continues there.")]
MethodOption = Annotated[SearchMethod, typer.Option("--method", help="dense, bm25, or hybrid: both, fused.")]
Each = Annotated[int, typer.Option(min=1, help="Excerpts of one document.")]
Documents = Annotated[Path, typer.Option(help="A file or folder of any format, or an index recipe (.yaml).")]
LimitDocuments = Annotated[int | None, typer.Option("--limit", min=1, help="Documents at most.")]
ENCODER_TOKENS, KS = "0,2048,6144,30720", "0,8,20,50"
"""Of `lm`, where its options name no others."""

app = typer.Typer(no_args_is_help=True, help="Measure a reader on the paper's tasks.")


@app.command()
def lm(
    documents: Documents,
    index: Annotated[Path | None, typer.Option(help="Measure with passages of this index, not long documents.")] = None,
    decoder_tokens: Annotated[int, typer.Option(help="Of an excerpt, in the decoder; the last 256 count.")] = 2048,
    encoder_tokens: Annotated[
        str | None, typer.Option(help="Before them, in the encoder: a row each.", show_default=ENCODER_TOKENS)
    ] = None,
    k: Annotated[
        str | None, typer.Option("--k", "-k", help="With --index: passages retrieved, a row each.", show_default=KS)
    ] = None,
    method: MethodOption = "hybrid",
    each: Each = 1,
    limit: LimitDocuments = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Perplexity with a long document, or retrieved passages, in the encoder (Tables 1 and 2)."""
    from ragx.evaluation import long_documents, retrieved

    if index is None and k is not None:
        raise ConfigError("--k is for passages of an index: name it with --index")
    if index is not None and encoder_tokens is not None:
        raise ConfigError("--encoder-tokens is for long documents: leave out --index, or say with --k how much is read")
    if index is None:
        counts = _numbers("encoder-tokens", ENCODER_TOKENS if encoder_tokens is None else encoder_tokens)
        reader, results = _opened("lm, long documents", model, device, dtype, out)
        table = long_documents.evaluate(
            reader,
            documents,
            results,
            decoder_tokens=decoder_tokens,
            encoder_tokens=counts,
            each=each,
            limit=limit,
        )
    else:
        counts = _numbers("k", KS if k is None else k)
        searcher, searched = _searcher(index, method, device, dtype)
        reader, results = _opened("lm, retrieved passages", model, device, dtype, out, **searched)
        table = retrieved.evaluate(
            reader,
            documents,
            searcher,
            method,
            results,
            decoder_tokens=decoder_tokens,
            ks=counts,
            each=each,
            limit=limit,
        )
    _show(table, as_json)


@app.command()
def qa(
    questions: Annotated[Path, typer.Option(help="JSON lines with question and answers, compressed or not.")],
    index: Annotated[Path | None, typer.Option(help="The index folder passages are retrieved from.")] = None,
    gold_only: Annotated[bool, typer.Option("--gold-only", help="The gold passages in the encoder; no index.")] = False,
    cepe_k: Annotated[str, typer.Option(help="Passages that cepe reads, a row each.")] = "10,20,30,60",
    full_k: Annotated[str, typer.Option(help="Passages in the plain decoder's prompt, a row each.")] = "5,10,20",
    prompt_passages: Annotated[int, typer.Option(help="How many of cepe's also stand in its prompt.")] = 10,
    distractors: Annotated[str, typer.Option(help="With --gold-only: random passages beside, a row each.")] = "0,9",
    method: MethodOption = "hybrid",
    limit: Annotated[int | None, typer.Option(min=1, help="Questions at most.")] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Exact match and F1 of answers from retrieved passages (Table 7), or from the encoder alone."""
    from ragx.evaluation.qa import gold_only as evaluate_gold_only
    from ragx.evaluation.qa import open_domain
    from ragx.evaluation.questions import read_questions
    from ragx.util.files import sha256
    from ragx.util.terminal import notice

    if (index is None) != gold_only:
        raise ConfigError("name either --index or --gold-only")
    rows = read_questions(questions)
    if gold_only:
        counts = _numbers("distractors", distractors)
        asked = [question for question in rows if question.gold]
        if len(asked) < len(rows):
            notice(f"{len(rows) - len(asked)} questions without a gold passage are left out")
        if not asked:
            raise ConfigError(f"no question of {questions} has a gold passage")
        # distractors come from all of the file, so that --limit changes no result
        told = f"{len(rows)} of them, SHA-256 {sha256(questions)[:16]}"
        reader, results = _opened("qa, gold only", model, device, dtype, out, questions=told)
        table = evaluate_gold_only(reader, asked[:limit], rows, results, counts=counts)
    else:
        assert index is not None  # noqa: S101
        cepe_counts, full_counts = _numbers("cepe-k", cepe_k), _numbers("full-k", full_k)
        searcher, searched = _searcher(index, method, device, dtype)
        reader, results = _opened("qa", model, device, dtype, out, **searched)
        table = open_domain(
            reader,
            rows[:limit],
            searcher,
            method,
            results,
            cepe_k=cepe_counts,
            full_k=full_counts,
            prompt_passages=prompt_passages,
        )
    _show(table, as_json)


@app.command()
def needle(
    documents: Annotated[Path, typer.Option(help="The haystack: a file, a folder, or an index recipe (.yaml).")],
    lengths: Annotated[str, typer.Option(help="Tokens of haystack.")] = "1024,2048,4096,8192,16384,32768",
    depths: Annotated[str, typer.Option(help="Where the needle is, in per cent.")] = "0,25,50,75,100",
    limit: Annotated[int, typer.Option(min=1, help="Trials of each length and depth.")] = 8,
    plot: Annotated[Path | None, typer.Option(help="Draw the grid as this PNG file.")] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Find one sentence in a long text that only the encoder reads (appendix D)."""
    from ragx.evaluation.needle import evaluate, read_sentences
    from ragx.evaluation.plot import check_plot, draw_grid

    sizes, places = _numbers("lengths", lengths), _numbers("depths", depths)
    if plot is not None:
        check_plot(plot)
    reader = _reader(model, device, dtype)
    hay = read_sentences(documents, reader.tokenizer, tokens=max(sizes))
    results = _results(reader, "needle", model, out, haystack=hay.described)
    table, grid = evaluate(reader, hay, results, lengths=sizes, depths=places, trials=limit)
    if plot is not None:
        draw_grid(plot, sizes, places, grid)
    _show(table, as_json)


@app.command()
def copy(
    documents: Documents,
    each: Each = 4,
    limit: LimitDocuments = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Copy unseen text that stands in the encoder alone: loss and top-1 accuracy (the paper's warmup, A.2)."""
    from ragx.evaluation.copying import evaluate

    reader, results = _opened("copy", model, device, dtype, out)
    _show(evaluate(reader, documents, results, each=each, limit=limit), as_json)


def _numbers(option: str, text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        raise ConfigError(f"--{option} is a list of whole numbers such as 10,20, not {text!r}") from None


def _opened(
    task: str, model: str | None, device: str | None, dtype: str, out: Path | None, **run: Any
) -> tuple[CepeReader, Results]:
    """The reader, and where results go; `run` is what else all results of the run have in common."""
    reader = _reader(model, device, dtype)
    return reader, _results(reader, task, model, out, **run)


def _reader(model: str | None, device: str | None, dtype: str) -> CepeReader:
    from ragx.evaluation.opening import open_measured
    from ragx.rag import DEFAULT_MODEL

    return open_measured(model or DEFAULT_MODEL, device=device, dtype=dtype)


def _results(reader: CepeReader, task: str, model: str | None, out: Path | None, **run: Any) -> Results:
    from ragx.evaluation.opening import fingerprint
    from ragx.evaluation.results import Results
    from ragx.rag import DEFAULT_MODEL

    weights = fingerprint(reader.model) if out is not None else ""
    return Results(out, {"task": task, "model": model or DEFAULT_MODEL, "weights": weights, **run})


def _searcher(index: Path, method: SearchMethod, device: str | None, dtype: str) -> tuple[Retriever, dict[str, str]]:
    """The retriever, and what tells its results from those of another index or method."""
    from ragx.rag import open_index

    opened = open_index(index, method=method, device=device, dtype=dtype).retriever
    made = f"{len(opened.index)} passages indexed at {opened.index.manifest.created}"
    return opened, {"index": made, "method": method}


def _show(table: Table, as_json: bool) -> None:
    print(json.dumps(table.values(), indent=2) if as_json else table.markdown())
