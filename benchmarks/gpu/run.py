"""Tests, training and benchmarks on the machine with the GPU, each in a process and a time of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.unpack import ROOT, environment, unpack

GRACE = 20
"""Seconds in which a part that is out of time may save its work."""
LOG_BYTES = 8 << 20


def run(places: Sequence[Path], work: Path, out: Path, seconds: Mapping[str, int], overrides: Sequence[str]) -> int:
    """Run the parts whose time is not 0 and write `report.md`, `log.txt` and their own files to `out`.

    Args:
        places: files of the pack, or the folders they are in.
        work: a folder for everything else.
        out: what comes back: at most 8 files of at most 16 MiB.
        seconds: of each part, in order.
        overrides: settings of the training, such as `loop.micro_batch=16`.

    Returns:
        The number of parts that failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    work, out = work.resolve(), out.resolve()
    began, report, failed = time.monotonic(), [], 0
    unpack(places, work)
    report.append(f"Unpacked in {time.monotonic() - began:.0f} s.\n")
    for part, limit in seconds.items():
        if not limit:
            continue
        text, code, took = _run_part(part, work, out, limit, overrides)
        failed += code != 0
        state = "" if code == 0 else f", **failed** with code {code}: see log.txt"
        report.append(f"## {part}: {took:.0f} of {limit} s{state}\n\n{text}")
        (out / "report.md").write_text("\n".join(report), encoding="utf-8")
        print(report[-1], flush=True)
    return failed


def _run_part(part: str, work: Path, out: Path, limit: int, overrides: Sequence[str]) -> tuple[str, int, float]:
    began = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.gpu.{part}", str(work), str(out), str(limit), *overrides]
    text, log = work / f"{part}.md", work / f"{part}.log"
    with text.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(work), stdout=stdout, stderr=stderr)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    took = time.monotonic() - began
    with (out / "log.txt").open("ab") as all_logs:
        all_logs.write(f"==== {part}\n".encode() + log.read_bytes()[-LOG_BYTES // 3 :])
    return text.read_text(encoding="utf-8"), process.returncode, took
