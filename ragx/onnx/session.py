"""Run ONNX graphs: sessions, and calls whose buffers are bound once and written in place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragx.util.device import cpu_threads

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_session(
    path: Path, threads: int | None = None, *, keep_memory: bool = True, fuse: bool = True
) -> InferenceSession:
    """A session on the CPU.

    Args:
        path: the graph.
        threads: how many compute each operator; by default one for each core.
        keep_memory: keep a run's temporary memory for the next run, which is faster.
        fuse: let ONNX Runtime replace groups of operators by one.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _default_threads()
    options.enable_cpu_mem_arena = keep_memory
    options.log_severity_level = 4  # exceptions say what went wrong
    if not fuse:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _default_threads() -> int:
    """As many as `cpu_threads`; 0: ONNX Runtime's choice where it may use every core."""
    threads = cpu_threads()
    return 0 if threads == os.cpu_count() else threads


class Call:
    """A session's inputs and outputs bound to arrays once; each run reads and writes them in place."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._arrays: dict[str, np.ndarray] = {}

    def bind_input(self, name: str, array: np.ndarray) -> None:
        """Read an input from `array`, which must be contiguous; `Call` keeps it alive."""
        self._arrays[name] = array
        self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def bind_output(self, name: str, array: np.ndarray) -> None:
        """Write an output to `array`, which must be contiguous and of the output's shape."""
        self._arrays[name] = array
        self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Run the graph."""
        self._session.run_with_iobinding(self._binding)
