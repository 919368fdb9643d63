"""How often the encoding of a text file is recognised.

    python -m benchmarks.charsets [--detector NAME] [--translations FOLDER] [--binaries FOLDER] [--rounds 1]

The set: sentences in 20 languages, shuffled to texts of 50 bytes to 6 KB, each in the code pages of its language, in
UTF-16 without a mark, and in UTF-8 with a stray byte. With `--translations` the sentences are those of catalogues such
as FOLDER/de/LC_MESSAGES/django.mo, and the code pages of DOS and the Macintosh are added. A text is right if it is
decoded to what was written (with U+FFFD for the stray byte). Prints a Markdown table, how many texts are wrong without
a notice, and how many of the binary files in a folder are taken for text.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from gettext import GNUTranslations
from itertools import chain
from pathlib import Path

from benchmarks.sentences import CODE_PAGES, SENTENCES
from benchmarks.tables import markdown
from ragx.corpus.encoding import decode

SIZES = (50, 120, 400, 1500, 6000)
"""Bytes of a text in the first code page of its language, at most."""
WESTERN = ("fr", "de", "es", "pt", "it", "nl", "sv", "da")
OLD_CODE_PAGES = {
    **dict.fromkeys(WESTERN, ("cp437", "cp850", "mac_roman")),
    **dict.fromkeys(("pl", "cs", "hu"), ("cp852",)),
    **dict.fromkeys(("ru", "bg"), ("cp866",)),
}
BINARY = (".so", ".o", ".a", ".pyc", ".png", ".jpg", ".gif", ".ico", ".ttf", ".woff2", ".gz", ".zip", ".mo", ".wav")
Detector = Callable[[bytes], tuple[str, bool]]
"""Bytes -> the text, and whether it comes with a notice."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", choices=DETECTORS, default="ragx")
    parser.add_argument("--translations", type=Path)
    parser.add_argument("--binaries", type=Path)
    parser.add_argument("--rounds", type=int, default=1, help="draws of the texts")
    parser.add_argument("--wrong", action="store_true", help="list the texts that come out wrong")
    options = parser.parse_args()
    right: dict[str, list[bool]] = defaultdict(list)
    silent, size, seconds = 0, 0, 0.0
    sentences: Mapping[str, tuple[str, ...]] = translated(options.translations) if options.translations else SENTENCES
    old = OLD_CODE_PAGES if options.translations else {}
    for language, kind, data, text in chain.from_iterable(texts(sentences, old, n) for n in range(options.rounds)):
        started = time.perf_counter()
        found, has_notice = DETECTORS[options.detector](data)
        seconds += time.perf_counter() - started
        size += len(data)
        right[kind].append(found == text)
        silent += found != text and not has_notice
        if options.wrong and found != text:
            print(f"{language}, {kind}, {len(data)} bytes, notice: {has_notice}: {found[:60]!r}")
    rows = [(kind, len(results), sum(results)) for kind, results in sorted(right.items())]
    total, correct = sum(row[1] for row in rows), sum(row[2] for row in rows)
    print(markdown(("encoding", "texts", "right"), [*rows, ("all", total, f"{correct} ({correct / total:.1%})")]))
    print(f"\n{silent} wrong without a notice; {size / seconds / 1e6:.2f} MB/s")
    if options.binaries:
        files = [path for path in options.binaries.rglob("*") if path.suffix in BINARY and path.is_file()]
        taken = [path for path in files if DETECTORS[options.detector](path.read_bytes())[0]]
        print(f"{len(taken)} of {len(files)} binary files taken for text: {', '.join(map(str, taken[:5]))}")


def translated(folder: Path) -> dict[str, tuple[str, ...]]:
    """The longer messages of catalogues in the languages of the sentences."""
    found = {}
    for language in SENTENCES:
        name = {"zh": "zh_Hans"}.get(language, language)
        if paths := sorted((folder / name / "LC_MESSAGES").glob("*.mo")):
            with paths[0].open("rb") as file:
                catalogue = GNUTranslations(file)
            messages = catalogue._catalog.values()  # type: ignore[attr-defined]
            found[language] = tuple(each for each in messages if isinstance(each, str) and 20 <= len(each) <= 2000)
    return {language: messages for language, messages in found.items() if messages}


def texts(
    sentences: Mapping[str, tuple[str, ...]], old: Mapping[str, tuple[str, ...]], seed: int
) -> Iterator[tuple[str, str, bytes, str]]:
    """Language, kind of encoding, bytes, and the text that they stand for."""
    rng = random.Random(seed)
    for language, each in sentences.items():
        for size in SIZES:
            text = shuffled(each, size, CODE_PAGES[language][0], rng)
            for codec in (*CODE_PAGES[language], *old.get(language, ())):
                if not (data := text.encode(codec, "ignore")).isascii():
                    kind = "code pages of DOS and the Macintosh" if codec in old.get(language, ()) else "code pages"
                    yield language, kind, data, data.decode(codec)
            yield language, "utf_16 without a mark", text.encode("utf_16_le"), text
            at = rng.randrange(len(text) + 1)
            if not text.isascii():
                stray = text[:at].encode() + b"\xff" + text[at:].encode()
                yield language, "utf_8 with a stray byte", stray, stray.decode(errors="replace")


def shuffled(sentences: tuple[str, ...], size: int, codec: str, rng: random.Random) -> str:
    """Sentences in random order, cut to `size` bytes."""
    lines: list[str] = []
    while len(data := " ".join(lines).encode(codec, "ignore")) < size:
        lines += rng.sample(sentences, len(sentences))
    return data[:size].decode(codec, "ignore")


def by_ragx(data: bytes) -> tuple[str, bool]:
    decoded = decode(data)
    return (decoded.text, bool(decoded.notices)) if decoded else ("", True)


def by_charset_normalizer(data: bytes) -> tuple[str, bool]:
    from charset_normalizer import from_bytes

    return str(from_bytes(data).best() or ""), False


def by_chardet(data: bytes) -> tuple[str, bool]:
    from chardet import detect

    return decoded_as(data, detect(data)["encoding"]), False


def by_cchardet(data: bytes) -> tuple[str, bool]:
    from cchardet import detect  # type: ignore[import-not-found]  # pip install faust-cchardet

    return decoded_as(data, detect(data)["encoding"]), False


def decoded_as(data: bytes, codec: str | None) -> str:
    try:
        return data.decode(codec or "latin_1", "replace")
    except LookupError:
        return ""


DETECTORS: dict[str, Detector] = {
    "ragx": by_ragx,
    "chardet": by_chardet,
    "charset-normalizer": by_charset_normalizer,
    "faust-cchardet": by_cchardet,
}


if __name__ == "__main__":
    main()
