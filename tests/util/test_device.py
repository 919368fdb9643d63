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
    with pytest.raises(ConfigError, match="dtype 'int3' is not one of auto, bfloat16, float16, float32"):
        parse_dtype("int3", "cpu")


@pytest.mark.parametrize("name", ["owl", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="not available on this machine"):
        usable_device(name)


def test_a_failed_allocation_is_one_line_and_other_errors_pass() -> None:
    with pytest.raises(RagxError, match="out of memory"), report_oom():
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shape"), report_oom():
        torch.ones(2) @ torch.ones(3, 3).reshape(2, 2)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_memory_that_is_kept_is_not_cleared_by_the_system_again() -> None:
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
    for how in ("keep", "give back"):
        done = subprocess.run([sys.executable, "-c", script, how], check=True, capture_output=True, text=True)
        faults[how] = int(done.stdout)
    assert faults["keep"] < faults["give back"] / 2
