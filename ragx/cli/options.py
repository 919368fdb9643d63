"""Options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def _go_offline(value: bool) -> bool:
    if value:
        os.environ.update(RAGX_OFFLINE="1", HF_HUB_OFFLINE="1")  # huggingface_hub reads its own when it is imported
    return value


Offline = Annotated[
    bool, typer.Option("--offline", callback=_go_offline, help="Never try the network (also RAGX_OFFLINE=1).")
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The index folder.")]
IndexFolder = Annotated[
    Path | None, typer.Option("--index", help="The index folder. Default: RAGX_INDEX, or ragx's own default index.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, auto (all GPUs); default: a GPU if there is one.")]
Dtype = Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")]
Bits = Annotated[int | None, typer.Option(help="4 or 8 hold the decoder in so many bits (bitsandbytes).")]
Reader = Annotated[str | None, typer.Option("--model", help="Decoder or CEPE reader: a name, a folder or a Hub id.")]
CacheSize = Annotated[float, typer.Option(min=0, help="GB of passage encodings kept on disk.")]
Encodings = Annotated[str, typer.Option(help="How they are kept: bfloat16, or int8 in half the space.")]
Engine = Annotated[str, typer.Option(help="local, or ray: the workers of a Ray cluster (docs/ray.md).")]
Address = Annotated[str | None, typer.Option(help="The Ray cluster: auto or HOST:PORT. Default: a local one.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
