"""`ragx train split`: the documents kept to retrieve from, as JSON lines that `ragx index build` reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ragx.errors import ConfigError, CorpusError
from ragx.util.files import durable_file
from ragx_train.data.documents import in_split, text_key
from ragx_train.data.sources import documents, expand
from ragx_train.settings import DocumentSettings


def write_retrieval_split(settings: DocumentSettings, out: Path) -> int:
    """Write the retrieval split of `settings.sources` to `out`, a line `{"id", "domain", "text"}` each.

    Returns:
        How many documents it has.

    Raises:
        ConfigError: `settings.retrieval` is 0, `out` exists, or a source is not there.
        CorpusError: a source cannot be read, or no document is in the split.
        IndexFolderError: `out` cannot be written.
    """
    if not settings.retrieval:
        raise ConfigError("data.retrieval is 0: no document is kept to retrieve from")
    if out.exists():
        raise ConfigError(f"{out} exists already: give --out another name")
    sources = [each for source in settings.sources for each in expand(settings.folder, source)]
    written = 0
    with durable_file(out) as file, tqdm(desc=f"writing {out.name}", unit=" documents") as progress:
        for source in sources:
            for text, domain in documents(source):
                key = np.array([text_key(text)], dtype=np.uint64)
                if text.strip() and in_split(key, "retrieval", test=settings.test, retrieval=settings.retrieval)[0]:
                    row = {"id": f"{domain}-{written}", "domain": domain, "text": text}
                    file.write(json.dumps(row).encode() + b"\n")
                    written += 1
                progress.update()
        if not written:
            raise CorpusError(f"none of {progress.n} documents is in the retrieval split: make data.retrieval larger")
    return written
