"""ragx over notes in LanceDB: `pip install lancedb`, then `python apps/examples/lancedb_store.py`.

The same few lines make a retriever of any other store.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import lancedb
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from ragx.langchain import ChatRagx, RagxEmbeddings

NOTES = {
    "Snow": "Fresh snow reflects up to 90 percent of the sunlight that reaches it.",
    "Soil": "Dark soil absorbs most of the sunlight and warms up quickly.",
    "Sea": "The open sea looks blue because red light is absorbed in it.",
}


class LanceRetriever(BaseRetriever):
    """The k rows of a table nearest to a question, best first."""

    table: Any
    embeddings: RagxEmbeddings
    k: int = 60

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        vector = self.embeddings.embed_query(query)
        rows = self.table.search(vector).distance_type("cosine").limit(self.k).to_list()
        return [Document(row["text"], metadata={"title": row["title"]}) for row in rows]


def main() -> None:
    """Put the notes into a table and answer a question from the two best ones."""
    embeddings = RagxEmbeddings()
    vectors = embeddings.embed_documents(list(NOTES.values()))
    rows = [
        {"title": title, "text": text, "vector": vector}
        for (title, text), vector in zip(NOTES.items(), vectors, strict=True)
    ]
    with TemporaryDirectory() as folder:
        table = lancedb.connect(folder).create_table("notes", rows)
        chat = ChatRagx(retriever=LanceRetriever(table=table, embeddings=embeddings, k=2), max_tokens=40)
        answer = chat.invoke("How much sunlight does fresh snow reflect?")
    print(answer.text)
    for citation in answer.response_metadata["citations"]:
        print(f"[{citation['number']}] {citation['title']}: {citation['text']}")


if __name__ == "__main__":
    main()
