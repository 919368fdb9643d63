"""ragx over notes in Qdrant: `pip install langchain-qdrant`, then `python apps/examples/qdrant_store.py`.

Qdrant runs in this process here and stores nothing; pass `url="http://…"` instead of `location` to use a server.
"""

from __future__ import annotations

from langchain_qdrant import QdrantVectorStore

from ragx.langchain import ChatRagx, RagxEmbeddings

NOTES = {
    "Snow": "Fresh snow reflects up to 90 percent of the sunlight that reaches it.",
    "Soil": "Dark soil absorbs most of the sunlight and warms up quickly.",
    "Sea": "The open sea looks blue because red light is absorbed in it.",
}


def main() -> None:
    """Put the notes into a collection and answer a question from the two best ones."""
    store = QdrantVectorStore.from_texts(
        list(NOTES.values()),
        RagxEmbeddings(),
        [{"title": title} for title in NOTES],
        location=":memory:",
        collection_name="notes",
    )
    chat = ChatRagx(retriever=store.as_retriever(search_kwargs={"k": 2}), max_tokens=40)
    answer = chat.invoke("How much sunlight does fresh snow reflect?")
    print(answer.text)
    for citation in answer.response_metadata["citations"]:
        print(f"[{citation['number']}] {citation['title']}: {citation['text']}")


if __name__ == "__main__":
    main()
