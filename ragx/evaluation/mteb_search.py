"""RagxSearch: ragx's index and search in MTEB's retrieval tasks (docs/adapters.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from ragx.config import IndexSettings, SearchOptions
from ragx.corpus import Document, split_passages
from ragx.corpus.document import normalise
from ragx.errors import ConfigError
from ragx.index import Index, build_index
from ragx.reader.reranking import open_reranker
from ragx.retrieval import Retriever, open_embedder
from ragx.retrieval.rerankers import search_reranked
from ragx.types import Hit, SearchMethod, embedded_text
from ragx.util.settings import checked

try:
    from mteb.models import ModelMeta
except ModuleNotFoundError:
    raise ImportError("RagxSearch needs mteb: pip install 'ragx[mteb]'") from None

Row = Mapping[str, Any]


class RagxSearch:
    """MTEB's search protocol: a corpus becomes an index in a temporary folder, and queries are searched in it.

    Passages that repeat another one are kept, because each document may be judged.
    """

    def __init__(
        self,
        settings: IndexSettings | None = None,
        *,
        method: SearchMethod = "hybrid",
        rerank: str = "none",
        device: str | None = None,
    ) -> None:
        """Load the models.

        Args:
            settings: embedder, chunking, language and so on, without sources; None: the defaults.
            method: dense, bm25 or hybrid.
            rerank: as of `ragx search`.
            device: a torch device; None: a GPU if there is one.

        Raises:
            ConfigError, ModelError: an option is out of range, or a model unusable.
        """
        self.settings, self.rerank = settings or IndexSettings(), rerank
        self.method = checked(SearchOptions, {"method": method, "rerank": rerank}).method
        self._embedder = open_embedder(self.settings.embedder, device)
        self._reranker = open_reranker(rerank, device, self.settings.embedder)
        self._device = device
        self._folder: TemporaryDirectory[str] | None = None
        self._retriever: Retriever | None = None

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """The embedder's name, and a revision that changes with any setting, so that MTEB keeps results apart."""
        settings = [self._embedder.fingerprint, self.settings.model_dump_json(), self.method, self.rerank]
        revision = hashlib.sha256("\n".join(settings).encode()).hexdigest()[:16]
        name = f"ragx/{Path(self._embedder.name).name}-{self.method}"
        return ModelMeta.create_empty({"name": name, "revision": revision})

    def index(self, corpus: Iterable[Row], **_: Any) -> None:
        """Index documents, rows with `id`, `text` and perhaps `title`, instead of those before.

        Raises:
            ConfigError: a document is not text.
            EmptyCorpusError: no document has any.
        """
        if self._folder is not None:
            self._retriever = None
            self._folder.cleanup()
        self._folder = TemporaryDirectory(prefix="ragx-mteb-", ignore_cleanup_errors=True)
        embedder, folder = self._embedder, Path(self._folder.name)
        passages = split_passages(_documents(corpus), self.settings.chunking, embedder.tokenizer, embedder.window)
        build_index((each for each in passages if embedded_text(each).strip()), folder, embedder, self.settings)
        self._retriever = Retriever(Index.open(folder), embedder, device=self._device)

    def search(
        self, queries: Iterable[Row], *, top_k: int, top_ranked: Mapping[str, Sequence[str]] | None = None, **_: Any
    ) -> dict[str, dict[str, float]]:
        """The scores of the documents of the `top_k` best passages, by query; a document has its best passage's.

        With a reranker, whose scores do not compare with those of the hits after the ones it scored, the scores are
        places, negated.

        Args:
            queries: rows with `id`, `text` and perhaps `instruction`, which is searched with the text.
            top_k: how many passages to find.
            top_ranked: the documents to search, by query; None: all.

        Raises:
            ConfigError: a query is not text, or nothing was indexed.
        """
        if (retriever := self._retriever) is None:
            raise ConfigError("nothing to search: index a corpus first")
        of_rows = None
        if top_ranked is not None:
            of_rows = np.array([retriever.index.passage(row).document for row in range(retriever.index.total)])

        def ranked(query: Row) -> dict[str, float]:
            question = " ".join(part for part in (_text(query), query.get("instruction")) if part)
            selected = None if of_rows is None or top_ranked is None else np.isin(of_rows, top_ranked[query["id"]])

            def find(k: int) -> Any:
                return retriever.search(question, k, self.method, selected)

            return self._scores(search_reranked(find, question, top_k, self._reranker))

        return {str(query["id"]): ranked(query) for query in tqdm(queries, unit=" queries")}

    def _scores(self, hits: Sequence[Hit]) -> dict[str, float]:
        scores: dict[str, float] = {}
        for place, hit in enumerate(hits):
            scores.setdefault(hit.passage.document, float(hit.score if self._reranker is None else -place))
        return scores


def _documents(corpus: Iterable[Row]) -> Iterator[Document]:
    for row in corpus:
        yield Document(str(row["id"]), normalise(row.get("title") or ""), normalise(_text(row)), "mteb")


def _text(row: Row) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise ConfigError(f"{row['id']} is not a text: ragx searches neither images nor conversations")
    return text
