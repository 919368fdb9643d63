"""Lexical search in six languages, and telling English texts: `python -m benchmarks.languages [FOLDER…]`.

The questions of `benchmarks.answers` are asked of all its sentences and of those of `benchmarks.sentences`, in 20
languages: ragx with the setting of the language, ragx with its default, and tantivy's default analyzer. Then texts cut
from the sentences, and the documents in folders of English files, are judged as a build judges them. Prints Markdown
tables.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import tantivy

from benchmarks.answers import ANSWERS
from benchmarks.charsets import shuffled
from benchmarks.sentences import SENTENCES
from benchmarks.tables import markdown
from ragx.corpus import Document, read_documents
from ragx.corpus.language import judge
from ragx.index.lexical_shard import LexicalShard, write_lexical_shard
from ragx.index.words import question_words

STEMMED = ("german", "arabic")
"""Languages of the questions that have a setting of their own."""
SIZES = (250, 500, 2000)
"""Bytes of the texts that are judged."""
TEXTS = 10
"""Of each language and size."""
Search = Callable[[str, int], list[int]]
"""Question and k -> numbers of sentences."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="English files")
    options = parser.parse_args()
    sentences = [*chain.from_iterable(each.values() for each in ANSWERS.values()), *chain(*SENTENCES.values())]
    print(f"{len(sentences)} sentences\n")
    default, bare = ragx(sentences, "english"), by_tantivy(sentences)
    rows = []
    for language, answers in ANSWERS.items():
        own = ragx(sentences, language) if language in STEMMED else default
        recalls = (recall(search, answers, sentences, k) for search in (own, default, bare) for k in (1, 5))
        rows.append((language, len(answers), *(f"{each:.2f}" for each in recalls)))
    columns = [f"{name}, recall@{k}" for name in ("ragx", "ragx, default", "tantivy") for k in (1, 5)]
    print(markdown(("language", "questions", *columns), rows))
    rng = random.Random(0)
    judged: dict[tuple[str, object], Counter[str | None]] = {}
    for language, each in SENTENCES.items():
        for size in SIZES:
            found: Counter[str | None] = Counter(judge(shuffled(each, size, "utf-8", rng)) for _ in range(TEXTS))
            key = "English" if language == "en" else f"{len(SENTENCES) - 1} other languages", size
            judged[key] = judged.get(key, Counter()) + found
    for folder in options.folders:
        documents = (entry for entry in read_documents([folder]) if isinstance(entry, Document))
        judged[f"English files in {folder}", "any"] = Counter(judge(document.text[:5000]) for document in documents)
    verdicts = ("english", "other", None)
    table = ((*key, *(found[verdict] for verdict in verdicts)) for key, found in judged.items())
    print("\n" + markdown(("texts", "bytes", "English", "another language", "not judged"), table))


def ragx(sentences: Sequence[str], language: str) -> Search:
    with TemporaryDirectory() as folder:
        write_lexical_shard(Path(folder), language, enumerate(sentences))
        shard = LexicalShard.open(Path(folder))
    return lambda question, k: shard.best(question_words(question, language), k)[0].tolist()


def by_tantivy(sentences: Sequence[str]) -> Search:
    schema = tantivy.SchemaBuilder().add_unsigned_field("row", stored=True).add_text_field("text").build()
    index = tantivy.Index(schema)
    writer = index.writer(num_threads=1)
    for row, text in enumerate(sentences):
        writer.add_document(tantivy.Document(row=row, text=text))
    writer.commit()
    index.reload()
    searcher = index.searcher()

    def search(question: str, k: int) -> list[int]:
        query, _ = index.parse_query_lenient(question, ["text"])
        return [searcher.doc(address)["row"][0] for _, address in searcher.search(query, k).hits]

    return search


def recall(search: Search, answers: dict[str, str], sentences: Sequence[str], k: int) -> float:
    found = sum(answer in [sentences[row] for row in search(question, k)] for question, answer in answers.items())
    return found / len(answers)


if __name__ == "__main__":
    main()
