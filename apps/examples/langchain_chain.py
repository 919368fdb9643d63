"""ragx in an LCEL chain over a LangChain vector store: `python apps/examples/langchain_chain.py`.

The index is in a temporary folder here; the retriever of any other vector store works as well.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from ragx.langchain import ChatRagx, RagxEmbeddings, RagxVectorStore

NOTES = {
    "Snow": "Fresh snow reflects up to 90 percent of the sunlight that reaches it.",
    "Soil": "Dark soil absorbs most of the sunlight and warms up quickly.",
    "Sea": "The open sea looks blue because red light is absorbed in it.",
}


def main() -> None:
    """Ask in three ways: streamed, with citations, and with one's own documents."""
    with TemporaryDirectory() as folder:
        store = RagxVectorStore.from_texts(
            list(NOTES.values()), RagxEmbeddings(), [{"title": title} for title in NOTES], folder=folder
        )
        chat = ChatRagx(retriever=store.as_retriever(search_kwargs={"k": 1}), max_tokens=40)
        chain = ChatPromptTemplate([("human", "How much sunlight does {what} reflect?")]) | chat

        for piece in (chain | StrOutputParser()).stream({"what": "fresh snow"}):
            print(piece, end="", flush=True)
        print()

        answer = chain.invoke({"what": "fresh snow"})
        for citation in answer.response_metadata["citations"]:
            print(f"[{citation['number']}] {citation['title']}: {citation['text']}")
        print(f"{answer.usage_metadata['output_tokens']} tokens")

        soil = store.similarity_search("soil", k=1)
        print(chat.bind(documents=soil).invoke("What does dark soil absorb?").text)


if __name__ == "__main__":
    main()
