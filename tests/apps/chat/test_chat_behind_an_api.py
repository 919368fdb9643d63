"""The page with a model behind an API."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from ragx_apps.queue import QuestionQueue

from ragx.rag import RAG
from tests.helpers.chat_page import serving_page
from tests.helpers.scripted_api import FINISHED, scripted_api


def test_it_answers_and_offers_no_other_reader(chat_index: Path, uploads: Path) -> None:
    with scripted_api() as api:
        api.script = ["Fresh snow reflects ", "most of the sunlight.", FINISHED]
        rag = RAG.from_index(chat_index, method="bm25", model="openai:snow-1", base_url=api.url)
        with rag, closing(QuestionQueue(rag)) as queue, serving_page(rag, queue, chat_index, uploads) as address:
            client = Client(address, verbose=False)
            asked: dict[str, Any] = {"method": "bm25", "api_name": "/ask"}
            answered = client.predict("Is snow bright?", **asked)
            assert answered["answer"] == "Fresh snow reflects most of the sunlight."
            assert answered["citations"][0]["document"] == "snow.txt"
            with pytest.raises(Exception, match="reads as full"):
                client.predict("Is snow bright?", reader="cepe", **asked)
            radios = [each["props"] for each in client.config["components"] if each["type"] == "radio"]
            [radio] = [each for each in radios if each["label"] == "Reader"]
            assert [value for _, value in radio["choices"]] == ["full"]
            assert (radio["value"], radio["visible"]) == ("full", False)
