"""What `pack` wrote, ready for use. Needs the standard library, NumPy and safetensors."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

from benchmarks.gpu.parts import join
from benchmarks.gpu.quants import restore

ROOT = Path(__file__).parents[2]
SITE = "site"


def unpack(places: Sequence[Path], work: Path) -> None:
    """Unpack the parts in `places` into `work`, unless they are there already."""
    done = work / "unpacked"
    if done.exists():
        return
    join(places, "pack", work)
    for packed in work.glob("data/*/tokens.bin.xz"):
        with lzma.open(packed) as file, packed.with_suffix("").open("wb") as plain:
            shutil.copyfileobj(file, plain, 1 << 20)
    for shrunk in work.glob("home/models/*/model.blocks"):
        restore(shrunk, weights := shrunk.with_name("model.safetensors"))
        record = json.loads(shrunk.with_name("ragx-record.json").read_text(encoding="utf-8"))
        with weights.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record["files"][weights.name]["sha256"]:
                raise SystemExit(f"{weights} is not what was packed")
    for wheel in work.glob("wheels/*.whl"):
        if find_spec(wheel.name.split("-")[0]) is None:
            with ZipFile(wheel) as files:
                files.extractall(work / SITE)
    done.touch()


def environment(work: Path) -> dict[str, str]:
    """The environment of a part: this checkout and the packages of `work`, its models, and no downloads."""
    paths = [
        ROOT,
        *(ROOT / name for name in ("kernels", "train", "weights")),
        work / SITE,
        os.environ.get("PYTHONPATH", ""),
    ]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)).strip(os.pathsep),
        "RAGX_HOME": str(work / "home"),
        "RAGX_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
