"""`/v1/embeddings`: vectors of texts, by the embedder of the index."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter
from tokenizers import Tokenizer

from ragx.retrieval import TextEmbedder
from ragx.retrieval.truncated import TruncatedEmbedder
from ragx.util.text import without_surrogates
from ragx_apps.server.errors import ApiError
from ragx_apps.server.models import ServedModels
from ragx_apps.server.requests import EmbeddingRequest
from ragx_apps.server.responses import Embedding, EmbeddingList, EmbeddingUsage
from ragx_apps.server.service import Service


def embeddings_router(service: Service, models: ServedModels) -> APIRouter:
    """The route; without an embedder it refuses every request."""
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest) -> EmbeddingList:
        """Embed texts, or arrays of token ids of the embedder's own tokenizer."""
        embedder = _with_dimensions(models.embedder(body.model), body.dimensions)
        tokenizer = embedder.tokenizer
        if tokenizer is None:
            raise ApiError(400, f"{embedder.name} has no fast tokenizer, which this route needs")

        def embed() -> tuple[np.ndarray, int]:
            texts = [
                without_surrogates(each) if isinstance(each, str) else _text_of(number, each, tokenizer, embedder)
                for number, each in enumerate(body.inputs)
            ]
            return embedder.embed_texts(texts), _count_tokens(texts, tokenizer, embedder)

        vectors, tokens = await service.run(embed)
        as_base64 = body.encoding_format == "base64"
        data = [
            Embedding(index=index, embedding=_base64(vector) if as_base64 else vector.tolist())
            for index, vector in enumerate(vectors)
        ]
        usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
        return EmbeddingList(data=data, model=embedder.name, usage=usage)

    return router


def _with_dimensions(embedder: TextEmbedder, dimensions: int | None) -> TextEmbedder:
    if dimensions is None or dimensions == embedder.dimension:
        return embedder
    if dimensions > embedder.dimension:
        raise ApiError(400, f"{embedder.name} has {embedder.dimension} dimensions: ask for fewer", param="dimensions")
    return TruncatedEmbedder(embedder, dimensions)


def _text_of(number: int, ids: Sequence[int], tokenizer: Tokenizer, embedder: TextEmbedder) -> str:
    """The text of token ids, which must be what the tokenizer gives for it, with or without special tokens.

    OpenAI's clients know no other vocabulary than OpenAI's own, and the same numbers mean other words there. Read as
    they are, they would give plausible vectors of nonsense.
    """
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    if list(ids) not in (tokenizer.encode(text, add_special_tokens=special).ids for special in (True, False)):
        raise ApiError(
            400,
            f"input {number} is not tokenized with {embedder.name}'s tokenizer: send text instead"
            " (LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))",
            param="input",
        )
    return text


def _count_tokens(texts: Sequence[str], tokenizer: Tokenizer, embedder: TextEmbedder) -> int:
    window = embedder.window
    counts = [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]
    for number, count in enumerate(counts):
        if window is not None and count > window:  # the embedder would truncate it
            raise ApiError(
                400,
                f"input {number} has {count} tokens, but {embedder.name} reads {window}: split it",
                param="input",
                code="context_length_exceeded",
            )
    return sum(counts)


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
