"""Take the documentation's screenshots of the chat: `make screenshots`.

The default models answer from the sample index, in Debian's Chromium.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.chat import serving

DOCS = Path(__file__).parents[1] / "docs"
QUESTION = "Where was Andre Agassi born?"
WINDOWS = {"": (1600, 900, 0.75), "-narrow": (400, 800, 1.0)}
"""Width and height in CSS pixels, and scale of the image, by suffix of the file name."""


def main() -> None:
    with serving() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for window, (width, height, scale) in WINDOWS.items():
            for theme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
                page.goto(f"{address}?__theme={theme}")
                page.get_by_label("Question").fill(QUESTION)
                page.get_by_label("Question").press("Enter")
                page.locator("#past .figures").wait_for(timeout=300_000)
                page.locator("a.citation").first.click()
                path = DOCS / f"chat{window}-{theme}.webp"
                with Image.open(io.BytesIO(page.screenshot())) as image:
                    image.resize((int(width * scale), int(height * scale))).save(path, quality=80, method=6)
                print(path)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
