"""`ragx index delete`, `compact`, `gc` and others: maintain an index. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ragx.cli.options import IndexFolder, Json
from ragx.corpus.document import Skipped
from ragx.errors import IndexFolderError, RagxError
from ragx.util.terminal import notice, waiting

app = typer.Typer()


@app.command("delete")
def index_delete(
    names: Annotated[list[str], typer.Argument(help="Document ids, files or folders.")],
    index: IndexFolder = None,
    as_json: Json = False,
) -> None:
    """Delete documents from an index; `ragx index gc` then erases their text from the disk."""
    from ragx.index.names import default_index
    from ragx.indexing.delete import delete

    folder = index or default_index()
    _report(folder, {"deleted": delete(folder, names)}, "passages deleted from", as_json)


@app.command("compact")
def index_compact(index: IndexFolder = None, as_json: Json = False) -> None:
    """Rewrite small shards and those with deleted passages, without embedding again."""
    from ragx.index import compact_index
    from ragx.index.names import default_index

    folder = index or default_index()
    _report(folder, {"shards": compact_index(folder).counts.shards}, "shards now in", as_json)


@app.command("gc")
def index_gc(index: IndexFolder = None, as_json: Json = False) -> None:
    """Erase deleted passages, earlier generations and unfinished builds from the disk."""
    from ragx.index import collect_garbage
    from ragx.index.names import default_index

    folder = index or default_index()
    _report(folder, {"bytes": collect_garbage(folder)}, "bytes freed in", as_json)


@app.command("repair")
def index_repair(index: IndexFolder = None, as_json: Json = False) -> None:
    """Rebuild damaged FAISS files and lexical indexes from the passages and vectors."""
    from ragx.index import repair_index
    from ragx.index.names import default_index

    folder = index or default_index()
    repaired = repair_index(folder)
    if as_json:
        print(json.dumps({"folder": str(folder), "repaired": repaired}, indent=2))
    else:
        notice(f"{folder}: rebuilt: {', '.join(repaired)}" if repaired else f"{folder}: nothing to repair")


@app.command("tune")
def index_tune(
    index: IndexFolder = None,
    recall: Annotated[float, typer.Option(help="Target recall against exact search.")] = 0.95,
    k: Annotated[int, typer.Option("-k", min=1, help="k at which recall is measured.")] = 10,
    as_json: Json = False,
) -> None:
    """Tune the search settings of an approximate index to reach a target recall."""
    from dataclasses import asdict

    from ragx.index.names import default_index
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


def _report(folder: Path, done: dict[str, int], what: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"folder": str(folder), **done}, indent=2))
    else:
        notice(f"{next(iter(done.values())):,} {what} {folder}")


@app.command("info")
def index_info(index: IndexFolder = None, as_json: Json = False) -> None:
    """Show the contents and settings of an index."""
    from ragx.cli import render
    from ragx.index import read_manifest
    from ragx.index.names import default_index

    folder = index or default_index()
    info = render.index_info(folder, read_manifest(folder))
    if as_json:
        print(json.dumps(info, indent=2))
        return
    print(render.report(info))


@app.command("fields")
def index_fields(index: IndexFolder = None, as_json: Json = False) -> None:
    """List the fields that filters (`--where`) can name, with examples of their values."""
    from ragx.cli import render
    from ragx.index import Index
    from ragx.index.names import default_index
    from ragx.retrieval.filters.fields import Fields

    with waiting("reading …"):
        fields = Fields(Index.open(index or default_index())).summaries()
    if as_json:
        print(json.dumps(fields, indent=2))
        return
    print("\n".join(render.field_line(name, summary) for name, summary in fields.items()))


@app.command("list")
def index_list(as_json: Json = False) -> None:
    """List the named indexes."""
    from ragx.cli import render
    from ragx.index import read_manifest
    from ragx.index.names import indexes_home, named_indexes

    infos: list[dict[str, object]] = []
    for name, folder in named_indexes().items():
        try:
            infos.append({"name": name, **render.index_info(folder, read_manifest(folder))})
        except RagxError as error:
            infos.append({"name": name, "folder": str(folder), "error": str(error)})
    if as_json:
        print(json.dumps(infos, indent=2))
    elif infos:
        print(render.index_table(infos))
    else:
        notice(f"no index in {indexes_home()}: `ragx index build PATH --index NAME` builds one")


@app.command("docs")
def index_docs(
    index: IndexFolder = None,
    skipped: Annotated[bool, typer.Option("--skipped", help="List what was skipped or read in part, and why.")] = False,
    as_json: Json = False,
) -> None:
    """List the documents of an index."""
    from dataclasses import asdict

    from ragx.cli import render
    from ragx.index import Index
    from ragx.index.documents import list_documents
    from ragx.index.names import default_index
    from ragx.indexing.file_records import read_records

    opened = Index.open(index or default_index())
    listed = read_records(opened).skipped if skipped else list_documents(opened)
    if as_json:
        print(json.dumps([asdict(each) for each in listed], indent=2))
        return
    for each in listed:
        print(render.skipped_line(each) if isinstance(each, Skipped) else render.document_lines(each))


@app.command("verify")
def index_verify(index: IndexFolder = None) -> None:
    """Check every file of an index against its checksum."""
    from ragx.index import verify
    from ragx.index.names import default_index

    folder = index or default_index()
    verify(folder)
    print(f"{folder}: all checksums match")


@app.command("rm")
def index_rm(
    index: Annotated[Path, typer.Option("--index", help="The index folder.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete an index."""
    from ragx.index import remove
    from ragx.index.manifest import is_index_folder

    if not is_index_folder(index):  # before asking for confirmation
        raise IndexFolderError(f"no index at {index}")
    if yes or typer.confirm(f"Delete the index {index}?", err=True):
        remove(index)
    else:
        notice("nothing was deleted")
