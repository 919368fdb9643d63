"""Passages retrieved before training, by position: `ragx train retrieve` writes them, the recipe `retdoc` reads them.

Training then needs no index, and may prepare batches in several processes. The folder holds:

    info.json   what was retrieved and how, the number of validation examples, and the type of a token
    tokens.bin  for each validation example and then each position: `passages` rows of a length and `passage_tokens`
                token ids, padded

Records have a fixed size and are appended; one that was cut off is written again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ragx.errors import ConfigError
from ragx.util.files import durable_file, writer_lock, writing
from ragx.util.terminal import notice
from ragx_train.errors import Interrupted, OutputError
from ragx_train.signals import stop_on_signals

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer
    from ragx_train.data.documents import Corpus
    from ragx_train.recipes.retdoc import RetdocSettings

INFO, TOKENS = "info.json", "tokens.bin"
Passages = list[list[int]]


class Retrieved:
    """The passages of a folder."""

    def __init__(self, folder: Path, settings: RetdocSettings, corpus: Corpus, tokenizer: Tokenizer) -> None:
        """Open a complete folder.

        Raises:
            ConfigError: it is missing or incomplete, or was written for other data or settings.
        """
        try:
            self.info: dict[str, Any] = json.loads((folder / INFO).read_text(encoding="utf-8"))
            self._records = _records(folder, settings, self.info)
        except (OSError, ValueError):
            raise ConfigError(f"retrieved: {folder} has no passages: run `ragx train retrieve`") from None
        check(folder, self.info, identity(settings, corpus, tokenizer))
        missing = self.info["validation"] + positions(settings) - len(self._records)
        if missing > 0:
            raise ConfigError(f"retrieved: {folder} lacks {missing:,} positions: continue `ragx train retrieve`")

    def validation(self, number: int) -> Passages:
        """The passages of a validation example."""
        return self._passages(number)

    def training(self, position: int) -> Passages:
        """The passages of a training example."""
        return self._passages(self.info["validation"] + position)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of how they were retrieved."""
        return hashlib.sha256(json.dumps(self.info, sort_keys=True).encode()).hexdigest()

    def _passages(self, record: int) -> Passages:
        return [row[1 : 1 + row[0]].tolist() for row in self._records[record] if row[0]]


def positions(settings: RetdocSettings) -> int:
    """Number of training examples of a run."""
    return settings.loop.steps * settings.loop.batch_size


def identity(settings: RetdocSettings, corpus: Corpus, tokenizer: Tokenizer) -> dict[str, Any]:
    """What decides the passages of a position, but for the index."""
    names = ("method", "decoder_tokens", "query_tokens", "passages", "passage_tokens")
    return {
        **{name: getattr(settings, name) for name in names},
        "seed": settings.loop.seed,
        "data": settings.data.model_dump(mode="json", exclude={"folder", "sources"}),
        "documents": corpus.fingerprint(),
        "tokenizer": hashlib.sha256(tokenizer.backend.to_str().encode()).hexdigest(),
    }


def check(folder: Path, info: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check that passages were retrieved for these data and settings.

    Raises:
        ConfigError: they were not.
    """
    for name, value in expected.items():
        if info.get(name) != value:
            raise ConfigError(f"retrieved: {folder} has passages for another {name}: retrieve again, to another folder")


def write_retrieved(
    out: Path,
    settings: RetdocSettings,
    info: dict[str, Any],
    training: Callable[[int], Sequence[int]],
    validation: Sequence[Sequence[int]],
    search: Callable[[Sequence[int]], Passages],
    deadline: float | None = None,
) -> bool:
    """Write what `search` finds for each validation example and each training position of a run, or continue.

    Args:
        out: the folder.
        settings: of the run; more steps add positions.
        info: `identity`, and what identifies the index.
        training: the tokens at a position.
        validation: the tokens of validation examples.
        search: the passages, at most `settings.passages` of at most `settings.passage_tokens` tokens.
        deadline: no search begins after it, in seconds of `time.monotonic`.

    Returns:
        Whether all are written.

    Raises:
        ConfigError: the folder was written for other data or settings.
        OutputError: it cannot be written, or another process writes to it.
        Interrupted: SIGINT or SIGTERM was received; a later call continues.
    """
    size = settings.passage_tokens + 1
    info = {**info, "validation": len(validation)}
    with writer_lock(out, OutputError):
        if (out / INFO).exists():
            saved = json.loads((out / INFO).read_text(encoding="utf-8"))
            check(out, saved, info)
            info = saved
        else:
            with durable_file(out / INFO, OutputError) as file:
                file.write(json.dumps(info).encode())
        record = np.dtype(info["dtype"]).itemsize * settings.passages * size
        total = len(validation) + positions(settings)
        with writing(out, OutputError), (out / TOKENS).open("ab") as file, stop_on_signals() as stop:
            done = min(file.tell() // record, total)
            file.truncate(file.tell() // record * record)
            for number in tqdm(range(done, total), "retrieving", total, initial=done, unit=" searches"):
                if deadline is not None and time.monotonic() > deadline:
                    notice(f"time limit reached after {number:,} of {total:,} searches: run the same command again")
                    return False
                ids = validation[number] if number < len(validation) else training(number - len(validation))
                table = np.zeros((settings.passages, size), info["dtype"])
                for row, passage in zip(table, search(ids), strict=False):
                    row[0], row[1 : 1 + len(passage)] = len(passage), passage
                file.write(table.tobytes())
                if stop.requested:
                    raise Interrupted(f"stopped by a signal after {number + 1:,} of {total:,} searches: run it again")
    return True


def token_type(tokenizer: Tokenizer) -> str:
    """The smallest type of all token ids and lengths."""
    return "uint16" if tokenizer.backend.get_vocab_size() <= 2**16 else "uint32"


def _records(folder: Path, settings: RetdocSettings, info: dict[str, Any]) -> np.ndarray:
    tokens = np.memmap(folder / TOKENS, info["dtype"], mode="r")
    size = settings.passages * (settings.passage_tokens + 1)
    return tokens[: len(tokens) // size * size].reshape(-1, settings.passages, settings.passage_tokens + 1)
