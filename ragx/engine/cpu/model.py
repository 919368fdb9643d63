"""A compiled reader: prompts, steps of a batch, and passages, in ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragx.cepe.store import OnEncoded, Passages, PassageStore, Rows
from ragx.engine.cpu.batch import CpuBatch
from ragx.engine.cpu.passages import CpuContext, CpuSequence
from ragx.engine.cpu.settings import EMBEDDINGS, ENCODER_EMBEDDINGS, read_settings
from ragx.engine.prefix_cache import PrefixCache, shareable, size_limit
from ragx.onnx.batches import batches_of_similar_length
from ragx.onnx.graph import WEIGHTS
from ragx.onnx.session import Call, open_session
from ragx.types import CrossAttend, EncodingFormat
from ragx.util.device import cpu_threads, free_memory
from ragx.util.files import sha256

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class CpuModel:
    """A compiled reader. One thread at a time may decode, and one may encode."""

    def __init__(self, folder: Path, *, frugal: bool = False) -> None:
        """Open the reader in `folder`; the graphs are loaded when they are needed.

        `frugal` frees those that read a prompt when it has been read, until there is another prompt.
        """
        self._frugal = frugal
        self.batch_limit: int | None = None
        self.plugged_in: str | None = None
        self.sharpen_beyond: int | None = None
        self.folder, self.settings = folder, read_settings(folder)
        self._embeddings = np.load(folder / EMBEDDINGS, mmap_mode="r")
        own = folder / ENCODER_EMBEDDINGS
        self._encoder_embeddings = np.load(own, mmap_mode="r") if own.exists() else self._embeddings

    @property
    def is_trained(self) -> bool:
        """Whether cross-attention has an effect."""
        return bool(self.settings.cross_layers)

    @property
    def window(self) -> int:
        """Maximum number of tokens of prompt and answer."""
        return self.settings.window

    @property
    def encoder_window(self) -> int:
        """Maximum number of tokens of a passage that the encoder reads."""
        return self.settings.encoder_window

    @property
    def encoder_width(self) -> int:
        """E."""
        return int(self._encoder_embeddings.shape[1])

    @property
    def encoded_limit(self) -> int:
        """Tokens of passages that half of the free memory holds while a question is answered."""
        sizes = self.settings
        phi = 2 + 4  # bytes of an element, as stored and as float32
        keys_values = 2 * (4 + 1) * len(sizes.cross_layers)  # as float32 and int8
        token = phi * self.encoder_width + keys_values * sizes.kv_heads * sizes.head_dim
        return free_memory("cpu") // 2 // token

    @property
    def encoder_dtype(self) -> str:
        """Number format of the encoder's weights, such as float32."""
        return "float32"

    @property
    def end_tokens(self) -> set[int]:
        """The decoder's own tokens that end an answer."""
        return set(self.settings.end_tokens)

    @property
    def prompted_gain(self) -> float:
        """The context's `gain` if some passages are also in the prompt."""
        return self.settings.prompted_gain

    @property
    def cross_attend(self) -> CrossAttend:
        """Which tokens of a prompt attend to the passages: `all`, or those of the `question` and what follows it."""
        return self.settings.cross_attend

    # --- passages ---

    def encode_passages(
        self, passages: Passages, store: PassageStore | None = None, on_encoded: OnEncoded | None = None
    ) -> CpuContext:
        """Encode one question's passages of at most `encoder_window` tokens.

        With a store, passages that it misses are stored, and all are used in the stored format, so that answers do not
        depend on whether a passage was stored before.
        """
        if store is None:
            phi = self._encode(passages)
        else:
            rows = store.encode(passages, lambda batch: self.encode_rows(batch, store.format), on_encoded)
            phi = rows.to_float32()
        offsets = [0, *accumulate(len(passage) for passage in passages)]
        return CpuContext(phi, offsets, self.sharpen_beyond)

    def encode_rows(self, passages: Passages, format: EncodingFormat) -> Rows:
        """Encode passages in one batch: their concatenated rows (M, E) in a stored format."""
        return Rows.from_float32(self._encode(passages), format)

    def encoder_fingerprint(self) -> str:
        """That of the torch model in float32, whose encodings are the same but for rounding."""
        return self.settings.encoder_fingerprint

    def weights_digest(self) -> str:
        """The first 16 hex digits of a SHA-256 over every weight and its number format."""
        sums = [sha256(self.folder / name) for name in (WEIGHTS, EMBEDDINGS)]
        return hashlib.sha256("".join(sums).encode()).hexdigest()[:16]

    def _encode(self, passages: Passages) -> np.ndarray:
        """Φ of passages one after another, (M, E) float32."""
        lengths = [len(passage) for passage in passages]
        starts = [0, *accumulate(lengths)]
        phi = np.empty((starts[-1], self.encoder_width), np.float32)

        def encode(batch: list[int]) -> None:
            longest = lengths[batch[0]]
            embeddings = np.zeros((len(batch), longest, self.encoder_width), np.float32)
            for row, number in enumerate(batch):
                embeddings[row, : lengths[number]] = self._encoder_embeddings[list(passages[number])]
            last = np.array([lengths[number] - 1 for number in batch], np.int32)
            inputs = {"embeddings": embeddings, "last": last, "total": np.array(longest, np.int32)}
            (encoded,) = self._encoder.run(["phi"], inputs)
            for row, number in enumerate(batch):
                phi[starts[number] : starts[number + 1]] = encoded[row, : lengths[number]]

        batches = ([number for number in batch if lengths[number]] for batch in batches_of_similar_length(lengths))
        list(self._workers.map(encode, filter(None, batches)))
        return phi

    # --- decoding ---

    def sequence(self, context: CpuContext | None, room: int) -> CpuSequence:
        """A sequence of up to `room` tokens that attends to `context`."""
        shape = (2 * self.settings.layers, 1, self.settings.kv_heads, room, self.settings.head_dim)
        if not self.is_trained or (context is not None and context.tokens == 0):
            context = None
        return CpuSequence(context, list(np.zeros(shape, np.float32)))

    def reuse(self, sequence: CpuSequence, prompt: Sequence[int]) -> int:
        """Give a new sequence the beginning that its prompt shares with an earlier one; the tokens it has now."""
        if self._frugal:
            return 0
        known = self._prefixes.longest(shareable(prompt, sequence.context))
        for array, part in zip(sequence.cache, known, strict=bool(known)):
            array[:, :, : part.shape[2]] = part
        sequence.tokens = list(prompt[: known[0].shape[2]]) if known else []
        return sequence.length

    def prefill(self, sequence: CpuSequence, tokens: Sequence[int], *, is_last: bool) -> np.ndarray:
        """Read the next tokens of a prompt; the logits (V,) after the last of them."""
        call = Call(self._prompt)
        start, end = sequence.length, sequence.length + len(tokens)
        call.bind_input("embeddings", self._embeddings[list(tokens)][None])
        call.bind_input("last", np.array([end - 1], np.int32))
        call.bind_input("total", np.array(end, np.int32))
        self.bind_cache(call, sequence.cache)
        context = sequence.context
        if self.is_trained:
            attending = context if context is not None and (is_last or context.attend_from < end) else None
            first = len(tokens) - 1 if attending is None else max(0, attending.attend_from - start)
            first = min(first, len(tokens) - 1)  # the operator takes no empty input
            call.bind_input("attend_from", np.array([first], np.int64))
            self._bind_passages(call, attending)
        logits = np.empty((1, self.vocabulary), np.float32)
        call.bind_output("logits", logits)
        queries = self.bind_queries(call, 1)
        call.run()
        sequence.tokens += tokens
        if is_last and not self._frugal:
            self._prefixes.add(shareable(sequence.tokens, sequence.context), sequence.cache)
        if context is not None and is_last:
            if context.record_attention:
                self.record(context, queries, "key")
            for layer in self.settings.cross_layers:  # steps read the int8 copies
                for kind in ("key", "value"):
                    context.keys_values.pop(f"{kind}.{layer}", None)
        if self._frugal and is_last:
            for graph in ("_prompt", "_passages", "_encoder"):
                self.__dict__.pop(graph, None)
        result: np.ndarray = logits[0]
        return result

    def batch(self) -> CpuBatch:
        """An empty batch of sequences to decode together."""
        return CpuBatch(self)

    def bind_cache(self, call: Call, arrays: Sequence[np.ndarray]) -> None:
        """Bind the keys and values of each layer in turn, which are read and written in place."""
        for number, array in enumerate(arrays):
            name = f"{('key', 'value')[number % 2]}.{number // 2}"
            call.bind_input(name, array)
            call.bind_output(f"present_{name}", array)

    def _bind_passages(self, call: Call, context: CpuContext | None) -> None:
        """Bind float32 keys and values, or a single row that adds nothing."""
        sizes = self.settings
        ones = np.ones((1, 1, sizes.heads * sizes.head_dim), np.float32)
        nothing = np.zeros((1, sizes.kv_heads, 1, sizes.head_dim), np.float32)
        if context is not None and f"key.{sizes.cross_layers[0]}" not in context.keys_values:
            names = [output.name for output in self._passages.get_outputs()]
            context.keys_values = dict(zip(names, self._passages.run(names, {"phi": context.phi}), strict=True))
        for layer in sizes.cross_layers:
            for kind in ("key", "value"):
                call.bind_input(
                    f"cross_{kind}.{layer}", nothing if context is None else context.keys_values[f"{kind}.{layer}"]
                )
            call.bind_input(f"query_factor.{layer}", ones * (context.scale(sizes.head_dim) if context else 0))
            call.bind_input(f"output_factor.{layer}", ones * (context.gain if context else 0))

    def bind_queries(self, call: Call, rows: int) -> list[np.ndarray]:
        """Arrays (B, H·D) for the queries of the last tokens, one a layer with cross-attention."""
        queries = []
        for layer in self.settings.cross_layers:
            queries.append(np.empty((rows, self.settings.heads * self.settings.head_dim), np.float32))
            call.bind_output(f"query.{layer}", queries[-1])
        return queries

    def record(self, context: CpuContext, queries: Sequence[np.ndarray], kind: str, row: int = 0) -> None:
        """Record the attention of a row's last token to the keys called `kind`, in every layer."""
        for layer, query in zip(self.settings.cross_layers, queries, strict=True):
            heads = query[row].reshape(self.settings.heads, self.settings.head_dim)
            context.record(heads, context.keys_values[f"{kind}.{layer}"][0])

    def factors(self, context: CpuContext | None, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """The factors of queries and outputs, (1, 1, H·D), of a step over int8 keys and values."""
        sizes = self.settings
        if context is None:
            zeros = np.zeros((1, 1, sizes.heads * sizes.head_dim), np.float32)
            return zeros, zeros
        scales = []
        for kind, factor in (("key", context.scale(sizes.head_dim)), ("value", context.gain)):
            groups = context.keys_values[f"{kind}_scale.{layer}"].reshape(sizes.kv_heads, 1, sizes.head_dim)
            heads = np.repeat(groups, sizes.heads // sizes.kv_heads, axis=1)
            scales.append((heads * np.float32(factor)).reshape(1, 1, -1))
        return scales[0], scales[1]

    @cached_property
    def _prefixes(self) -> PrefixCache:
        return PrefixCache(size_limit("cpu"))

    @cached_property
    def _prompt(self) -> InferenceSession:
        return open_session(self.folder / "prompt.onnx")

    @cached_property
    def step_session(self) -> InferenceSession:
        """The graph that decodes one token of every row."""
        return open_session(self.folder / "step.onnx")

    @cached_property
    def _passages(self) -> InferenceSession:
        return open_session(self.folder / "passages.onnx", keep_memory=False)

    @cached_property
    def _encoder(self) -> InferenceSession:
        return open_session(self.folder / "encoder.onnx", threads=1)

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(cpu_threads(), "encoder")

    @property
    def vocabulary(self) -> int:
        """V."""
        return len(self._embeddings)

    def embed(self, tokens: Sequence[int]) -> np.ndarray:
        """The decoder's embeddings, (n, W)."""
        rows: np.ndarray = self._embeddings[list(tokens)]
        return rows
