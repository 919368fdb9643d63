"""Hugging Face datasets: on the Hub, or a local folder."""

from __future__ import annotations

from collections.abc import Iterator

from ragx.config import DatasetSource
from ragx.corpus.document import Document, Skipped, one_line
from ragx.corpus.rows import row_document
from ragx.errors import CorpusError


def open_dataset(source: DatasetSource) -> Iterator[Document | Skipped]:
    """The rows of a dataset, streamed if its format allows.

    Raises:
        CorpusError: the dataset, its config, its split or one of the columns is missing. While iterating: the
            connection broke.
    """
    import datasets

    try:
        try:
            rows = datasets.load_dataset(source.dataset, source.config, split=source.split, streaming=True)
        except NotImplementedError:
            rows = datasets.load_dataset(source.dataset, source.config, split=source.split)
        columns = rows.column_names or list(next(iter(rows), {}))
    except Exception as error:  # the library documents no common base class of its errors
        message = f"{one_line(str(error))} (check its name, config and split; offline only a local folder works)"
        raise CorpusError(f"cannot load the dataset {source.dataset}: {message}") from None
    wanted = [source.id_column, source.text_column]
    if "title_column" in source.model_fields_set:
        wanted.append(source.title_column)
    for column in wanted:
        if column not in columns:
            raise CorpusError(f"the dataset {source.dataset} has no column {column!r}; it has {', '.join(columns)}")
    kept = [column for column in columns if column in {*wanted, source.title_column}]
    return _documents(rows.select_columns(kept), source)


def _documents(rows: Iterator[dict[str, object]], source: DatasetSource) -> Iterator[Document | Skipped]:
    number = 0
    try:
        for row in rows:
            number += 1
            title, text = row.get(source.title_column), row[source.text_column]
            document = row_document(row[source.id_column], title, text, source.dataset)
            yield Skipped(f"{source.dataset}:{number}", document) if isinstance(document, str) else document
    except Exception as error:
        message = f"the dataset {source.dataset} cannot be read beyond row {number}: {one_line(str(error))}"
        raise CorpusError(message) from None
