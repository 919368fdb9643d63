"""How much of the main text of web pages the HTML parser finds, beside other extractors.

    python -m benchmarks.html FOLDER [--pages]

FOLDER holds `NAME.html` for the names of html_regions.json, which gives CSS selectors for each page, chosen by hand:
the main region, what is removed from it (navigation, adverts, shares), and what may be found or not (tables of
contents, particulars of authors). The words of the main region are those that Chromium shows (`innerText`, without
JavaScript and network). Recall: the share of these words that is found; precision: the share of the words found that
belongs there. Words count as often as they occur. Needs playwright with Chromium, trafilatura and
readability-lxml.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ragx.corpus.extract.html import parse

REGIONS = Path(__file__).with_name("html_regions.json")
SHOWN = """([main, drop, optional]) => {
    const remove = selector => selector && document.querySelectorAll(selector).forEach(element => element.remove());
    const text = elements => elements.map(element => element.innerText).join("\\n");
    remove("noscript");
    document.querySelectorAll("img[class*=math]").forEach(image => image.replaceWith(image.alt));
    remove(drop);
    document.querySelectorAll("details").forEach(element => { element.open = true; });
    const either = optional ? [...document.querySelectorAll(optional)] : [];
    const extra = text(either.filter(element => !either.some(other => other !== element && other.contains(element))));
    remove(optional);
    const found = [...document.querySelectorAll(main)];
    const region = text(found.filter(element => !found.some(other => other !== element && other.contains(element))));
    return [region, extra];
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", action="store_true", help="print each page's recall and precision by ragx")
    options = parser.parse_args()
    for kind, regions in json.loads(REGIONS.read_text()).items():
        report(kind, words_shown(options.folder, regions), each=options.pages)


def report(kind: str, shown: dict[Path, tuple[Counter[str], Counter[str]]], *, each: bool) -> None:
    """Print the scores of all extractors on some pages."""
    print(f"\n{len(shown)} {kind} pages\n")
    print("| extractor | recall | precision | lowest recall | pages/s |\n|---|---|---|---|---|")
    for name, extract in EXTRACTORS.items():
        started = time.perf_counter()
        found = {path: Counter(words(extract(path))) for path in shown}
        seconds = time.perf_counter() - started
        scores = {path: score(found[path], *shown[path]) for path in shown}
        recalls, precisions = zip(*scores.values(), strict=True)
        means = [sum(values) / len(values) for values in (recalls, precisions)]
        print(f"| {name} | {means[0]:.3f} | {means[1]:.3f} | {min(recalls):.2f} | {len(shown) / seconds:.0f} |")
        if each and name == "ragx":
            for path, (recall, precision) in sorted(scores.items(), key=lambda item: item[1]):
                print(f"    {path.stem}: {recall:.3f} {precision:.3f}")


def words(text: str) -> list[str]:
    return re.findall(r"[぀-ヿ㐀-鿿]|[^\W_぀-ヿ㐀-鿿]+", text.lower())


def words_shown(folder: Path, regions: dict[str, list[str]]) -> dict[Path, tuple[Counter[str], Counter[str]]]:
    """The words of the main region of each page, and those that may be found or not."""
    from playwright.sync_api import sync_playwright

    paths = [path for name in regions if (path := folder / f"{name}.html").exists()]
    shown = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(java_script_enabled=False, offline=True).new_page()
        for path in paths:
            page.goto(path.absolute().as_uri(), wait_until="domcontentloaded")
            region, optional = page.evaluate(SHOWN, regions[path.stem])
            assert region.strip(), f"no main region in {path.name}"
            shown[path] = (Counter(words(region)), Counter(words(optional)))
    return shown


def score(found: Counter[str], region: Counter[str], optional: Counter[str]) -> tuple[float, float]:
    """Recall and precision."""
    right = (found & region).total()
    allowed = (found & (region + optional)).total()
    return right / region.total(), allowed / max(found.total(), 1)


def trafilatura(path: Path, *, favor_recall: bool = False) -> str:
    from trafilatura import extract

    return extract(path.read_bytes(), favor_recall=favor_recall) or ""


def readability(path: Path) -> str:
    from lxml.html import fromstring
    from readability import Document

    return "\n".join(fromstring(Document(path.read_text(errors="replace")).summary()).itertext())


EXTRACTORS: dict[str, Callable[[Path], str]] = {
    "ragx": lambda path: parse(path).text,
    "trafilatura": trafilatura,
    "trafilatura, favor_recall": lambda path: trafilatura(path, favor_recall=True),
    "readability-lxml": readability,
}

if __name__ == "__main__":
    main()
