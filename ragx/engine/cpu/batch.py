"""Sequences of a compiled reader that decode together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ragx.engine.cpu.passages import CpuContext, CpuSequence
from ragx.engine.cpu.rows import RowCache
from ragx.onnx.session import Call

if TYPE_CHECKING:
    from ragx.engine.cpu.model import CpuModel


class CpuBatch:
    """Sequences that decode a token each per step."""

    def __init__(self, model: CpuModel) -> None:
        self._model = model
        self._cache, self._passages = RowCache(), RowCache()
        self._contexts: list[CpuContext | None] = []
        self._call: Call | None = None  # until the rows change

    def join(self, sequence: CpuSequence) -> None:
        """Add a sequence whose prompt has been read, as the last row."""
        sizes = self._model.settings
        self._cache.join(sequence.cache, sequence.length)
        context = sequence.context
        if sizes.cross_layers:
            if context is None:
                nothing = np.zeros((1, sizes.kv_heads, 1, sizes.head_dim), np.int8)
                self._passages.join([nothing] * 2 * len(sizes.cross_layers), 1)
            else:
                arrays = [
                    context.keys_values[f"{kind}8.{layer}"] for layer in sizes.cross_layers for kind in ("key", "value")
                ]
                self._passages.join(arrays, context.tokens)
        self._contexts.append(context)
        self._call = None

    def leave(self, row: int) -> None:
        """Remove a row; the last row takes its place."""
        self._cache.leave(row)
        if self._model.settings.cross_layers:
            self._passages.leave(row)
        self._contexts[row] = self._contexts[-1]
        self._contexts.pop()
        self._call = None

    def step(self, tokens: Sequence[int]) -> np.ndarray:
        """Read one token of each row; the logits (B, V) after it."""
        if self._call is None:
            self._call = self._bound()
        self._embeddings[:, 0] = self._model.embed(tokens)
        self._last[:] = self._cache.lengths
        self._total[...] = max(self._cache.lengths) + 1
        self._call.run()
        self._cache.lengths = [length + 1 for length in self._cache.lengths]
        for row, context in enumerate(self._contexts):
            if context is not None and context.record_attention:
                self._model.record(context, self._queries, "key8", row)
        return self._logits

    def _bound(self) -> Call:
        """A call over the rows' arrays."""
        model, rows = self._model, len(self._contexts)
        call = Call(model.step_session)
        width = model.embed([0]).shape[1]
        self._embeddings = np.empty((rows, 1, width), np.float32)
        self._last, self._total = np.empty(rows, np.int32), np.array(0, np.int32)
        self._logits = np.empty((rows, model.vocabulary), np.float32)
        call.bind_input("embeddings", self._embeddings)
        call.bind_input("last", self._last)
        call.bind_input("total", self._total)
        call.bind_output("logits", self._logits)
        model.bind_cache(call, self._cache.arrays)
        self._queries = model.bind_queries(call, rows)
        if model.settings.cross_layers:
            lengths = np.array(self._passages.lengths, np.int32)
            call.bind_input("cross_last", lengths - 1)
            call.bind_input("cross_total", np.array(max(self._passages.lengths), np.int32))
        for number, array in enumerate(self._passages.arrays):
            kind, layer = ("key", "value")[number % 2], model.settings.cross_layers[number // 2]
            call.bind_input(f"cross_{kind}.{layer}", array)
            call.bind_output(f"present_cross_{kind}.{layer}", array)
            # the operator writes the last token of each row again
            ends = array[np.arange(rows), :, lengths - 1].astype(np.float32).reshape(rows, 1, -1)  # (B, 1, G·D)
            call.bind_input(f"new_{kind}.{layer}", np.ascontiguousarray(ends))
        for layer in model.settings.cross_layers:
            factors = [model.factors(context, layer) for context in self._contexts]
            for name, column in zip(("query_factor", "output_factor"), zip(*factors, strict=True), strict=True):
                call.bind_input(f"{name}.{layer}", np.concatenate(column))
        return call
