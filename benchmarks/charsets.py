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
from ragx.corpus.encoding import decode

SIZES = (50, 120, 400, 1500, 6000)
"""Bytes in the smallest encoding of a text, at most."""
Detector = Callable[[bytes], tuple[str, bool]]
"""Bytes -> the text, and whether it comes with a notice."""


def texts(seed: int = 0) -> Iterator[tuple[str, str, str, bytes, str]]:
    """Name of the language, kind of encoding, its name, the bytes, and the text that they stand for."""
    shuffle = random.Random(seed)
    for language, sentences in SENTENCES.items():
        for size in SIZES:
            text = made(sentences, size, CODE_PAGES[language][0], shuffle)
            for codec in CODE_PAGES[language]:
                if (data := text.encode(codec, "ignore")) and not data.isascii():
                    yield language, codec, codec, data, data.decode(codec)
            yield language, "utf_16 without a mark", "utf_16_le", text.encode("utf_16_le"), text
            data, at = text.encode(), shuffle.randrange(len(text) + 1)
            if not text.isascii():
                stray = text[:at].encode() + b"\xff" + text[at:].encode()
                yield language, "utf_8 with a stray byte", "utf_8", stray, stray.decode(errors="replace")


def made(sentences: tuple[str, ...], size: int, codec: str, shuffle: random.Random) -> str:
    """Sentences in any order until they fill `size` bytes; the last one is cut."""
    lines: list[str] = []
    while len(data := " ".join(lines).encode(codec, "ignore")) < size:
        lines += shuffle.sample(sentences, len(sentences))
    return data[:size].decode(codec, "ignore")


def ours(data: bytes) -> tuple[str, bool]:
    decoded = decode(data)
    return decoded.text, bool(decoded.notices)


def by_charset_normalizer(data: bytes) -> tuple[str, bool]:
    from charset_normalizer import from_bytes

    best = from_bytes(data).best()
    return (str(best) if best else ""), False


def by_chardet(data: bytes) -> tuple[str, bool]:
    from chardet import detect

    return data.decode(detect(data)["encoding"] or "latin_1", "replace"), False


def by_cchardet(data: bytes) -> tuple[str, bool]:
    from cchardet import detect  # pip install faust-cchardet

    return data.decode(detect(data)["encoding"] or "latin_1", "replace"), False


DETECTORS: dict[str, Detector] = {
    "ragx": ours,
    "chardet": by_chardet,
    "charset-normalizer": by_charset_normalizer,
    "faust-cchardet": by_cchardet,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", choices=DETECTORS, default="ragx")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wrong", action="store_true", help="list the texts that come out wrong")
    options = parser.parse_args()
    right: dict[str, list[bool]] = defaultdict(list)
    silent, chars, started = 0, 0, time.perf_counter()
    for language, kind, codec, data, text in texts(options.seed):
        try:
            found, notice = DETECTORS[options.detector](data)
        except LookupError:
            found, notice = "", False
        right[kind].append(found == text)
        silent += found != text and not notice
        chars += len(data)
        if options.wrong and found != text:
            print(f"{language} {codec} {len(data)} bytes, notice: {notice}: {found[:60]!r}")
    seconds = time.perf_counter() - started
    print("| encoding | texts | right |\n|---|---|---|")
    for kind, results in sorted(right.items()):
        print(f"| {kind} | {len(results)} | {sum(results)} |")
    total = [result for results in right.values() for result in results]
    print(f"| all | {len(total)} | {sum(total)} ({sum(total) / len(total):.1%}) |")
    print(f"\n{silent} wrong without a notice; {chars / seconds / 1e6:.2f} MB/s")


if __name__ == "__main__":
    main()
