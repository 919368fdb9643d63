"""How often the encoding of a text file is recognised: `python -m benchmarks.charsets [--detector NAME]`.

The set: sentences in 20 languages, shuffled to texts of 50 bytes to 6 KB, each in the code pages of its language, in
UTF-16 without a mark, and in UTF-8 with a stray byte. A text is right if it is decoded to what was written (with U+FFFD
for the stray byte). Prints a Markdown table, and how many texts are wrong without a notice.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

from benchmarks.sentences import CODE_PAGES, SENTENCES
from benchmarks.tables import markdown
from ragx.corpus.encoding import decode

SIZES = (50, 120, 400, 1500, 6000)
"""Bytes of a text in the first code page of its language, at most."""
Detector = Callable[[bytes], tuple[str, bool]]
"""Bytes -> the text, and whether it comes with a notice."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", choices=DETECTORS, default="ragx")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wrong", action="store_true", help="list the texts that come out wrong")
    options = parser.parse_args()
    right: dict[str, list[bool]] = defaultdict(list)
    silent, size, seconds = 0, 0, 0.0
    for language, kind, data, text in texts(options.seed):
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


def texts(seed: int) -> Iterator[tuple[str, str, bytes, str]]:
    """Language, kind of encoding, bytes, and the text that they stand for."""
    rng = random.Random(seed)
    for language, sentences in SENTENCES.items():
        for size in SIZES:
            text = shuffled(sentences, size, CODE_PAGES[language][0], rng)
            for codec in CODE_PAGES[language]:
                if not (data := text.encode(codec, "ignore")).isascii():
                    yield language, codec, data, data.decode(codec)
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
