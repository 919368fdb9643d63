"""Startup time of `ragx chat`, and load time of its page.

A separate process serves the sample index. A browser opens the page, first with an empty cache, then repeatedly.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks import sample
from benchmarks.tables import markdown

LOADS = 5


def run() -> str:
    """A Markdown table."""
    from playwright.sync_api import Page, sync_playwright

    def load(page: Page) -> float:
        begin = time.perf_counter()
        page.goto(address)
        page.get_by_label("Question").wait_for(timeout=120_000)
        return time.perf_counter() - begin

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        start = time.perf_counter()
        with serving() as address:
            listening = time.perf_counter() - start
            first = load(page)
            again = [load(page) for _ in range(LOADS)]
        browser.close()
    rows = [
        ("`ragx chat` to its address", listening),
        ("page, first load", first),
        ("`ragx chat` to a usable page", listening + first),
        (f"page, later loads (median of {LOADS})", median(again)),
    ]
    return markdown(("", "s"), [(name, f"{seconds:.2f}") for name, seconds in rows])


@contextmanager
def serving() -> Iterator[str]:
    """Run `ragx chat` over the sample index in a separate process; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "ragx", "chat", "--index", str(sample.INDEX), "--port", str(port), "--offline"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        next(line for line in server.stderr if address in line)
        yield address
    finally:
        server.terminate()
        server.wait()
