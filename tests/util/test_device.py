"""Devices, number formats and memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from ragx.errors import ConfigError, RagxError
from ragx.util.device import default_dtype, parse_dtype, report_oom, usable_device


def test_number_formats_by_name() -> None:
    assert parse_dtype("float16", "cpu") is torch.float16
    assert parse_dtype(torch.bfloat16, "cpu") is torch.bfloat16
    assert parse_dtype("auto", "cpu") == parse_dtype(None, "cpu") == default_dtype("cpu")
    with pytest.raises(ConfigError, match="'int3' is not one of"):
        parse_dtype("int3", "cpu")


@pytest.mark.parametrize("name", ["owl", "cuda:99", ""])
def test_an_unavailable_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="not available"):
        usable_device(name)


def test_failed_allocations_are_reported_and_other_errors_pass() -> None:
    with pytest.raises(RagxError, match="out of memory"), report_oom():
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shape"), report_oom():
        torch.ones(2) @ torch.ones(3, 3).reshape(2, 2)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_keeping_freed_memory_avoids_page_faults() -> None:
    script = """
import resource, sys
from ragx.util.device import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(20):
    bytearray(64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""
    faults = {}
    for setting in ("keep", "default"):
        process = subprocess.run([sys.executable, "-c", script, setting], check=True, capture_output=True, text=True)
        faults[setting] = int(process.stdout)
    assert faults["keep"] < faults["default"] / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_freed_memory_is_returned_whatever_was_freed_before() -> None:
    script = """
import sys
from pathlib import Path
from ragx.util.device import return_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) << 12

if sys.argv[1] == "return":
    return_freed_memory()
bytearray(b"1") * (31 << 20)
before = resident()
blocks = [bytearray(b"1") * (8 << 20) for _ in range(8)]
del blocks[:-1]  # the last one ends the heap
print(resident() - before)
"""
    kept = {}
    for setting in ("return", "default"):
        process = subprocess.run([sys.executable, "-c", script, setting], check=True, capture_output=True, text=True)
        kept[setting] = int(process.stdout)
    assert kept["return"] < 10 << 20
    assert kept["default"] > 50 << 20
