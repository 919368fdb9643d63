"""`ragx index delete`, `compact`, `gc` and others: look after an index. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ragx.cli.options import Folder, IndexFolder, Json
from ragx.errors import ConfigError, IndexFolderError
from ragx.util.terminal import notice, waiting

DefaultFolder = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="The index folder. Default: as --index of `ragx ask`.")
]

app = typer.Typer()


@app.command("delete")
def index_delete(
    index: Folder,
    names: Annotated[list[str], typer.Argument(help="Ids of documents, or the files or folders that they came from.")],
    as_json: Json = False,
) -> None:
    """Delete documents from an index; `ragx index gc` then wipes their text from the disk."""
    from ragx.indexing.update import delete

    _tell(index, {"deleted": delete(index, names)}, "passages deleted from", as_json)


@app.command("compact")
def index_compact(index: DefaultFolder = None, as_json: Json = False) -> None:
    """Write shards that hold deleted passages, or are small, again without them; nothing is embedded."""
    from ragx.index import compact_index
    from ragx.rag import default_index

    folder = index or default_index()
    _tell(folder, {"shards": compact_index(folder).counts.shards}, "shards now in", as_json)


@app.command("gc")
def index_gc(index: DefaultFolder = None, as_json: Json = False) -> None:
    """Wipe deleted passages, earlier generations and unfinished builds from the disk."""
    from ragx.index import collect_garbage
    from ragx.rag import default_index

    folder = index or default_index()
    _tell(folder, {"bytes": collect_garbage(folder)}, "bytes given back by", as_json)


@app.command("repair")
def index_repair(index: DefaultFolder = None, as_json: Json = False) -> None:
    """Make damaged FAISS and BM25 files again from the passages and vectors."""
    from ragx.index import repair_index
    from ragx.rag import default_index

    folder = index or default_index()
    repaired = repair_index(folder)
    if as_json:
        print(json.dumps({"folder": str(folder), "repaired": repaired}, indent=2))
    else:
        notice(f"{folder}: made again: {', '.join(repaired)}" if repaired else f"{folder}: every file is whole")


@app.command("tune")
def index_tune(
    index: DefaultFolder = None,
    recall: Annotated[float, typer.Option(help="Share of what exact search finds that is to be found.")] = 0.95,
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages a search is to find.")] = 10,
    as_json: Json = False,
) -> None:
    """Measure how thoroughly an approximate index must be searched, and keep the fastest way that finds enough."""
    from dataclasses import asdict

    from ragx.rag import default_index
    from ragx.retrieval import tune_index
    from ragx.retrieval.tuning import describe

    folder = index or default_index()
    with waiting("measuring …"):
        tuning = tune_index(folder, recall, k=k)
    if as_json:
        trials = [{**asdict(t), "search": t.search.model_dump()} for t in tuning.trials]
        print(
            json.dumps({"folder": str(folder), "search": tuning.chosen.search.model_dump(), "trials": trials}, indent=2)
        )
        return
    print(f"{f'recall@{k}':>10}  {'p50 ms':>8}  {'p95 ms':>8}")
    for trial in tuning.trials:
        mark = "  <- chosen" if trial is tuning.chosen else ""
        print(f"{trial.recall:>10.3f}  {trial.p50:>8.2f}  {trial.p95:>8.2f}  {describe(trial.search)}{mark}")


def _tell(folder: Path, done: dict[str, int], what: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"folder": str(folder), **done}, indent=2))
    else:
        notice(f"{next(iter(done.values())):,} {what} {folder}")


def _one_of(folder: Path | None, index: Path | None) -> Path:
    from ragx.rag import default_index

    if folder is not None and index is not None:
        raise ConfigError(f"name one folder: {folder} or --index {index}")
    return folder or index or default_index()


@app.command("info")
def index_info(folder: DefaultFolder = None, index: IndexFolder = None, as_json: Json = False) -> None:
    """Say what an index holds."""
    from ragx.cli import render as display
    from ragx.index import read_manifest

    named = _one_of(folder, index)
    info = display.index_info(named, read_manifest(named))
    if as_json:
        print(json.dumps(info, indent=2))
        return
    print(display.report(info))


@app.command("verify")
def index_verify(folder: DefaultFolder = None, index: IndexFolder = None) -> None:
    """Check every file of an index against its checksum."""
    from ragx.index import verify

    named = _one_of(folder, index)
    verify(named)
    print(f"{named}: every file is as it was written")


@app.command("rm")
def index_rm(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete an index."""
    from ragx.index import remove
    from ragx.index.manifest import is_index_folder

    if not is_index_folder(index):  # before it asks
        raise IndexFolderError(f"no index at {index}")
    if yes or typer.confirm(f"Delete the index {index}?", err=True):
        remove(index)
    else:
        notice("nothing was deleted")
