"""ragx in LangChain: an LLM, a chat model, a retriever, embeddings and a vector store; and its chat models in ragx.

    answering.py    what RagxLLM and ChatRagx share: settings, passages, reading, citing
    llm.py          RagxLLM
    chat_model.py   ChatRagx
    reader.py       ChatModelReader, any LangChain chat model as a reader of ragx
    retriever.py    RagxRetriever, over an index that ragx has built
    embeddings.py   RagxEmbeddings, and any LangChain embeddings as an index's embedder
    vectorstore.py  RagxVectorStore, an index that documents are added to and deleted from
    filters.py      conditions on documents' metadata
    documents.py    LangChain's documents and ragx's passages

Needs `pip install 'ragx[langchain]'`.
"""

from __future__ import annotations

try:
    import langchain_core as _  # noqa: F401
except ModuleNotFoundError:
    raise ImportError("ragx.langchain needs langchain-core: pip install 'ragx[langchain]'") from None

from ragx.langchain.chat_model import ChatRagx
from ragx.langchain.embeddings import RagxEmbeddings
from ragx.langchain.llm import RagxLLM
from ragx.langchain.reader import ChatModelReader
from ragx.langchain.retriever import RagxRetriever
from ragx.langchain.vectorstore import RagxVectorStore

__all__ = ["ChatModelReader", "ChatRagx", "RagxEmbeddings", "RagxLLM", "RagxRetriever", "RagxVectorStore"]
