"""The Triton kernels compile for NVIDIA GPUs within their shared memory; Triton can do that without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

COMPILE = """
import sys
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ragx_kernels.cross_attention import triton as kernel

capability, memory, width, phi = (int(word) if word.isdigit() else word for word in sys.argv[1:])
sizes = kernel.block_sizes(32, width, 2, memory)
constants = dict(sizes, HAS_SCALE=phi == "i8", HAS_MASK=True, WANTS_LSE=True, DOT=tl.bfloat16, PRECISION="ieee")
pointers = dict(query="bf16", phi=phi, phi_scale="fp32", mask="i1", runs="i32", first_run="i32", partial="fp32",
                split_lse="fp32", run_lse="fp32")
if phi != "i8":
    constants["phi_scale"] = None

def compile(function, pointers, constants):
    names = function.arg_names
    types = {name: "constexpr" if name in constants else "fp32" if name == "scale" else "*" + pointers[name]
             if name in pointers else "i32" for name in names}
    places = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(function, types, places)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(num_warps=8, num_stages=2))

print(compile(kernel._split_kernel, pointers, constants).metadata.shared)
merge = dict(partial="fp32", split_lse="fp32", output="bf16")
compile(kernel._merge_kernel, merge, dict(BLOCK=triton.next_power_of_2(width)))
"""
SHARED_MEMORY = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}
"""Bytes per thread block, by compute capability (A100, L4/RTX 40, H100)."""


@pytest.mark.parametrize(
    ("capability", "width", "phi"), [(80, 1024, "bf16"), (89, 1024, "i8"), (90, 576, "bf16"), (90, 384, "i8")]
)
def test_kernels_compile_within_shared_memory(capability: int, width: int, phi: str) -> None:
    limit = SHARED_MEMORY[capability]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    words = [str(capability), str(limit), str(width), phi]
    done = subprocess.run([sys.executable, "-c", COMPILE, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= limit
