"""`/v1/rerank`: documents by their relevance to a query, in the form that Jina's and Cohere's clients read."""

from __future__ import annotations

import uuid

import numpy as np
from fastapi import APIRouter

from ragx.corpus.document import normalise
from ragx.errors import ModelError
from ragx.retrieval.rerankers.api import ApiReranker
from ragx.types import Passage
from ragx.util.text import first_line, without_surrogates
from ragx_apps.server.errors import ApiError
from ragx_apps.server.models import ServedModels
from ragx_apps.server.requests import RerankRequest
from ragx_apps.server.responses import Reranked, RerankedDocument, RerankList
from ragx_apps.server.service import Service


def rerank_router(service: Service, models: ServedModels) -> APIRouter:
    """The routes; Cohere's newer clients call `/v2/rerank`."""
    router = APIRouter()

    @router.post("/v1/rerank")
    @router.post("/v2/rerank")
    async def rerank(body: RerankRequest) -> RerankList:
        """Sort documents by their relevance to a query, best first."""
        reranker = models.reranker(body.model)
        if not body.query.strip():
            raise ApiError(400, "the query is empty", param="query")
        texts = [without_surrogates(text) for text in body.texts]
        passages = [
            Passage(str(number), "", "", normalise(text), number, 0, len(text), "") for number, text in enumerate(texts)
        ]

        def score() -> np.ndarray:
            try:
                return np.asarray(reranker.scores(normalise(without_surrogates(body.query)), passages), np.float64)
            except ModelError as error:  # a rerank API that does not answer
                raise ApiError(503, f"{reranker.name} failed: {first_line(error)}") from None

        scores = await service.run(score)
        # a cross-encoder's logits become probabilities, as clients expect; an API's are probabilities
        relevance = scores if isinstance(reranker, ApiReranker) else 1 / (1 + np.exp(-scores))
        best = np.argsort(-scores, kind="stable")[: body.top_n]
        results = [
            Reranked(
                index=int(number),
                relevance_score=float(relevance[number]),
                document=RerankedDocument(text=texts[number]) if body.return_documents else None,
            )
            for number in best
        ]
        return RerankList(id=uuid.uuid4().hex, model=reranker.name, results=results)

    return router
