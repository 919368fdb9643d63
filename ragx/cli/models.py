"""`ragx models`: models by name. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragx.cli.options import Json, Offline
from ragx.types import CrossAttend
from ragx.util.terminal import notice

app = typer.Typer(no_args_is_help=True, help="List, recommend, download and quantize models.")


@app.command("list")
def list_known(as_json: Json = False) -> None:
    """List registered models and where they can be loaded from."""
    from ragx.models import list_models

    rows = list_models()
    if as_json:
        print(
            json.dumps([{**asdict(row), "folder": str(row.folder) if row.folder else None} for row in rows], indent=2)
        )
        return
    print(f"{'model':<24} {'kind':<8} {'on disk':>8}  sources")
    for row in rows:
        size = f"{row.size / 1e6:,.0f} MB" if row.size else "-"
        print(f"{row.name:<24} {row.kind:<8} {size:>8}  {', '.join(row.sources)}")


@app.command("recommend")
def recommend_decoders(as_json: Json = False) -> None:
    """List decoders that fit this machine, and which have a trained reader."""
    from ragx.models.recommend import recommend, summary, this_machine
    from ragx.util.text import gib

    device, free = this_machine()
    rows = recommend(device, free)
    if as_json:
        print(json.dumps({"device": device, "free": free, "decoders": [asdict(row) for row in rows]}, indent=2))
        return
    print(f"{'decoder':<24} {'weights':>7} {'window':>8} {'needs':>9}  {'fits':<21} {'reader':<20} licence")
    for row in rows:
        fits = (f"with {row.option}" if row.option else "yes") if row.fits else "no"
        print(
            f"{row.name:<24} {row.parameters / 1e9:>6.2f}B {row.window:>8,} {gib(row.needs):>9}  {fits:<21}"
            f" {row.reader or 'full':<20} {row.license}"
        )
    notice(summary(rows, device, free))


@app.command("pull")
def pull(name: str, offline: Offline = False) -> None:
    """Download and verify a model."""
    from ragx.models import pull

    print(pull(name))


@app.command("path")
def path(name: str) -> None:
    """Print the folder of a downloaded model."""
    from ragx.models import resolve

    print(resolve(name, allow_download=False))


@app.command("quantize")
def quantize(
    model: Annotated[Path, typer.Argument(help="Folder of a trained reader, or of a cross-encoder.")],
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    prompted_gain: Annotated[
        float, typer.Option(help="Cross-attention scale when the prompt also has passages.")
    ] = 1.0,
    cross_attend: Annotated[
        CrossAttend, typer.Option(help="Prompt tokens that attend to passages: all, or the question's.")
    ] = "all",
    within: Annotated[
        float | None,
        typer.Option(min=0, help="Read only passages scored at most this much below the best. Default: all"),
    ] = None,
) -> None:
    """Write what training added to a reader's decoder, or to a reranker's embedder, in int8: a quarter of its size."""
    from ragx.cepe.added_weights import quantize_reader
    from ragx.models.check import PROJECTION, settings
    from ragx.retrieval.rerankers.stored import quantize_reranker

    if settings(model, str(model), None) == "reranker":
        quantize_reranker(model, out)
    else:
        quantize_reader(model, out, prompted_gain, cross_attend, within)
        if (model / PROJECTION).is_file():
            shutil.copyfile(model / PROJECTION, out / PROJECTION)
    print(out)
