"""A BERT-like embedder compiled for the CPU: ONNX Runtime computes it, in float32 and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragx.errors import ModelError
from ragx.onnx.batches import batches_of_similar_length, padded
from ragx.onnx.session import open_session
from ragx.retrieval.bert import PoolingMode
from ragx.retrieval.embedder import TextEmbedder
from ragx.retrieval.tokenizer import plain_text_tokenizer
from ragx.util.device import cpu_threads
from ragx.util.settings import Settings
from ragx.util.text import first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding

GRAPH, TOKENIZER, SETTINGS = "embedder.onnx", "tokenizer.json", "settings.json"


class CompiledSettings(Settings):
    """settings.json of a compiled embedder: what its graph does not say."""

    dimension: int
    window: int
    """Maximum number of tokens, special tokens included."""
    unknown: int | None
    """Id of the unknown token."""
    pooling: PoolingMode
    normalized: bool
    question_prompt: str
    passage_prompt: str


class CompiledEmbedder(TextEmbedder):
    """A compiled embedder. A vector does not depend on the number of threads: each batch is computed by one."""

    def __init__(self, folder: Path, name: str, fingerprint: str) -> None:
        """Open what `compile_embedder` wrote into `folder`.

        Raises:
            ModelError: it cannot be read.
        """
        try:
            self._settings = settings = CompiledSettings.model_validate_json((folder / SETTINGS).read_bytes())
            tokenizer = plain_text_tokenizer((folder / TOKENIZER).read_text(encoding="utf-8"), settings.unknown)
            self._open = partial(open_session, folder / GRAPH, threads=1, fuse=False)
            self._session: InferenceSession | None = self._open()
        except Exception as error:  # tokenizers and ONNX Runtime raise many classes
            raise ModelError(f"cannot load embedder {name} from {folder}: {first_line(error)}") from error
        self._tokenizer = tokenizer
        super().__init__(name, fingerprint, dimension=settings.dimension, window=settings.window, tokenizer=tokenizer)

    def free(self) -> None:
        """Free the graph's memory; it is opened again when it is needed."""
        self._session = None

    def encode_question(self, question: str) -> np.ndarray:
        """Encode a question: (d,) float32."""
        vector: np.ndarray = self._vectors(self._tokenize([self._settings.question_prompt + question]))[0]
        return vector

    def encode_whole(self, texts: Sequence[str]) -> np.ndarray:
        tokens = self._tokenize([self._settings.passage_prompt + text for text in texts])
        vectors = np.empty((len(texts), self.dimension), np.float32)

        def fill(rows: list[int]) -> None:
            vectors[rows] = self._vectors([tokens[row] for row in rows])

        list(self._workers.map(fill, batches_of_similar_length(list(map(len, tokens)))))
        return vectors

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(cpu_threads(), "embedder")

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, special tokens around it, truncated to the window."""
        return [
            encoding.ids if len(encoding) <= self._settings.window else self._truncated(text)
            for encoding, text in zip(self._tokenizer.encode_batch(texts), texts, strict=True)
        ]

    def _truncated(self, text: str) -> list[int]:
        encoding: Encoding = self._tokenizer.encode(text, add_special_tokens=False)
        encoding.truncate(self._settings.window - self._tokenizer.num_special_tokens_to_add(is_pair=False))
        return self._tokenizer.post_process(encoding).ids

    def _vectors(self, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        """The vectors of one batch."""
        lengths = np.array(list(map(len, tokens)), np.int32)
        is_token = np.arange(lengths.max()) < lengths[:, None]  # (B, L)
        inputs: dict[str, np.ndarray] = {"ids": padded(tokens), "lengths": lengths}
        if self._settings.pooling == "mean":
            inputs["shares"] = (is_token / lengths[:, None].astype(np.float32)).astype(np.float32)[:, None]
        session = self._session = self._session or self._open()
        vectors: np.ndarray = session.run(None, inputs)[0]
        if self._settings.normalized:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors
