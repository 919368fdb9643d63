"""A folder as files of limited size with checksums, and back. Needs the standard library alone."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path


def split(folder: Path, out: Path, name: str, size: int) -> list[Path]:
    """Write `folder` to `out` as NAME.0, NAME.1, … of at most `size` bytes, and their SHA-256s as NAME.json."""
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    digests = {}
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w:gz", compresslevel=6) as tar:
            tar.add(folder, ".")
        whole.seek(0)
        while data := whole.read(size):
            written.append(out / f"{name}.{len(written)}")
            written[-1].write_bytes(data)
            digests[written[-1].name] = hashlib.sha256(data).hexdigest()
    written.append(out / f"{name}.json")
    written[-1].write_text(json.dumps(digests, indent=1), encoding="utf-8")
    return written


def join(places: Iterable[Path], name: str, folder: Path) -> None:
    """Unpack into `folder` what `split` wrote, from files or the folders they are in.

    Raises:
        SystemExit: a part is missing or has another checksum.
    """
    files = {file.name: file for place in places for file in (place.iterdir() if place.is_dir() else [place])}
    if f"{name}.json" not in files:
        raise SystemExit(f"{name}.json is missing: give it with its parts")
    with tempfile.TemporaryFile() as whole:
        for part, digest in json.loads(files[f"{name}.json"].read_text(encoding="utf-8")).items():
            if part not in files:
                raise SystemExit(f"{part} is missing: give all parts of {name}.json")
            data = files[part].read_bytes()
            if hashlib.sha256(data).hexdigest() != digest:
                raise SystemExit(f"{files[part]} is damaged: copy it again")
            whole.write(data)
        whole.seek(0)
        with tarfile.open(fileobj=whole, mode="r:gz") as tar:
            tar.extractall(folder, filter="data")
