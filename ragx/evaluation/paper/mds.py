"""Token ids from MDS shards, as the authors keep RedPajama in, without unpickling anything.

An MDS folder has an index.json that lists its shards. A shard is the number of samples (uint32), where each begins and
the last one ends (uint32), settings, and the samples. A sample is the sizes of its columns that have no fixed one
(uint32), followed by the bytes of all columns. Arrays of ids are pickled; the ids are read from the pickle's opcodes,
which are never executed.
"""

from __future__ import annotations

import json
import pickletools
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ragx.errors import ConfigError, CorpusError
from ragx.util.files import durable_file
from ragx.util.text import first_line

INDEX = "index.json"
IDS = ("prev_token_ids", "token_ids")
"""Columns of ids, in the order of the text."""


def convert(folder: Path, out: Path) -> int:
    """Write the samples below `folder` as JSON lines of `ids` and `domain`; returns their number.

    A domain that a sample does not name is the name of its folder.

    Raises:
        CorpusError: there are no shards, or one is damaged or of another form.
        ConfigError: `out` cannot be written.
    """
    indices = sorted(folder.rglob(INDEX))
    if not indices:
        raise CorpusError(f"{folder} has no {INDEX} of MDS shards")
    count = 0
    with durable_file(out, ConfigError) as file:
        for index in indices:
            for ids, domain in read_samples(index.parent):
                file.write(json.dumps({"ids": ids, "domain": domain or index.parent.name}).encode() + b"\n")
                count += 1
    return count


def read_samples(folder: Path) -> Iterator[tuple[list[int], str]]:
    """The ids and the domain of each sample in a folder of shards.

    Raises:
        CorpusError: a shard is damaged or of another form.
    """
    place = folder / INDEX
    try:
        for shard in json.loads(place.read_text(encoding="utf-8"))["shards"]:
            if shard["format"] != "mds" or shard["version"] != 2 or shard.get("compression"):
                raise CorpusError(f"{place} does not list uncompressed MDS shards of version 2")
            place = folder / Path(shard["raw_data"]["basename"]).name
            columns = list(zip(shard["column_names"], shard["column_encodings"], shard["column_sizes"], strict=True))
            for sample in _samples(place.read_bytes()):
                values = dict(_columns(sample, columns))
                yield [token for name in IDS if name in values for token in values[name]], values.get("domain", "")
    except OSError as error:
        raise CorpusError(f"{place} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise CorpusError(f"{place} is damaged, or no MDS shard of token ids: {first_line(error)}") from None


def _samples(data: bytes) -> Iterator[bytes]:
    (count,) = struct.unpack_from("<I", data)
    ends = struct.unpack_from(f"<{count + 1}I", data, 4)
    if list(ends) != sorted(ends) or ends[-1] > len(data):
        raise ValueError("samples beyond its end")
    for start, end in pairwise(ends):
        yield data[start:end]


def _columns(sample: bytes, columns: list[tuple[str, str, int | None]]) -> Iterator[tuple[str, Any]]:
    """The columns that are needed."""
    sizes, place = [], 0
    for _, _, size in columns:
        if not size:
            (size,) = struct.unpack_from("<I", sample, place)
            place += 4
        sizes.append(size)
    if place + sum(sizes) != len(sample):
        raise ValueError("a sample's columns do not fill it")
    for (name, encoding, _), size in zip(columns, sizes, strict=True):
        value = sample[place : place + size]
        place += size
        if name in IDS:
            if encoding != "pkl":
                raise ValueError(f"column {name} is {encoding}, not pkl")
            yield name, pickled_ids(value)
        elif name == "domain" and encoding == "str":
            yield name, value.decode()


def pickled_ids(data: bytes) -> list[int]:
    """The whole numbers of a one-dimensional NumPy array, pickled by protocol 3 or later.

    Raises:
        ValueError: the bytes are no such pickle.
    """
    if data[:1] != b"\x80" or data[1] < 3:  # earlier protocols keep bytes as text
        raise ValueError("a column of ids is no pickle of protocol 3 or later")
    strings, numbers, payload = [], [], b""
    for _, argument, _ in pickletools.genops(data):
        if isinstance(argument, str):
            strings.append(argument)
        elif isinstance(argument, bytes | bytearray):
            payload = bytes(argument)
        elif isinstance(argument, int):
            numbers.append(argument)
    kinds = [each for each in strings if re.fullmatch("[iu][1248]", each)]
    if len(kinds) != 1:
        raise ValueError("a column of ids is no pickled array of whole numbers")
    array = np.frombuffer(payload, dtype=(">" if ">" in strings else "<") + kinds[0])
    if len(array) not in numbers:
        raise ValueError("a pickled array has more dimensions than one")
    ids: list[int] = array.tolist()
    return ids
