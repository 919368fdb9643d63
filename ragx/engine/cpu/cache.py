"""Compiled readers on disk: each is compiled once and kept, with its checksums, until its model changes.

cache_home()/compiled/<name>-<hash>/   see ragx/models/cache.py for the record of its files
prompt.onnx step.onnx passages.onnx encoder.onnx weights.bin   the graphs and their weights
embeddings.npy encoder_embeddings.npy                         rows by token
settings.json tokenizer.json chat.json
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ragx import models
from ragx.models.compiled import find_compiled, store_compiled

VERSION = 2
"""Of graphs and settings: another version is compiled anew."""


def compiled(name: str) -> Path:
    """The folder of a model compiled for the CPU; compiles it if that has not been done or its files have changed.

    Raises:
        ModelError: the model is missing, damaged or too large for the memory, or the folder cannot be written.
    """
    folder = models.resolve(name)
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in _files(folder)]
    state = f"version {VERSION} of {files}"
    found = find_compiled(folder, state)
    if found is not None:
        return found

    def compile(draft: Path) -> None:
        from ragx import cepe
        from ragx.engine.cpu.compile import compile_reader
        from ragx.util.tokenization import load_tokenizer

        model = cepe.load(name, dtype="float32", device="cpu")
        compile_reader(model, draft)
        load_tokenizer(Path(str(model.name_or_path))).save(draft)

    return store_compiled(folder, name, state, compile)


def _files(folder: Path) -> Iterator[Path]:
    """The files of a model, and of its decoder if that lies elsewhere."""
    yield from sorted(path for path in folder.iterdir() if path.is_file())
    if "decoder" in (values := models.read_config(folder)):
        yield from sorted(path for path in models.resolve(str(values["decoder"]["name"]), "decoder").iterdir())
