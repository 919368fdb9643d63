"""`ragx train split`: the documents reserved for retrieval, as JSON lines that `ragx index build` reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ragx.errors import ConfigError, CorpusError
from ragx.util.files import durable_file
from ragx_train.data.documents import in_split, text_key
from ragx_train.data.sources import documents, expand
from ragx_train.errors import OutputError, check_new
from ragx_train.settings import DocumentSettings


def write_retrieval_split(settings: DocumentSettings, out: Path) -> int:
    """Write the retrieval split of `settings.sources` to `out`, one `{"id", "domain", "text"}` a line.

    Returns:
        The number of documents written.

    Raises:
        ConfigError: `settings.retrieval` is 0, or a source does not exist.
        CorpusError: a source cannot be read, or no document is in the split.
        OutputError: `out` exists or cannot be written.
    """
    if not settings.retrieval:
        raise ConfigError("data.retrieval is 0: set the share of documents to reserve for retrieval")
    check_new(out)
    sources = [file for source in settings.sources for file in expand(settings.folder, source)]
    written = 0
    progress = tqdm(desc=f"writing {out.name}", unit=" documents")
    with durable_file(out, OutputError) as file, progress:
        for source in sources:
            for text, domain in documents(source):
                key = np.array([text_key(text)], dtype=np.uint64)
                if text.strip() and in_split(key, "retrieval", test=settings.test, retrieval=settings.retrieval)[0]:
                    row = {"id": f"{domain}-{written}", "domain": domain, "text": text}
                    file.write(json.dumps(row).encode() + b"\n")
                    written += 1
                progress.update()
        if not written:
            raise CorpusError(f"none of {progress.n} documents is in the retrieval split: increase data.retrieval")
    return written
