"""Which files make up a model, what kind it is, and whether ragx can use it.

A model is data: models that need their own code are refused, unless their decoder is one that transformers knows; then
the code is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache as cache_calls
from pathlib import Path, PurePosixPath

from ragx.errors import ModelError
from ragx.models import cache
from ragx.models.registry import Kind
from ragx.util.terminal import notice

WEIGHTS = re.compile(r"model[\w.-]*\.safetensors")
INDEX = "model.safetensors.index.json"
PICKLED = re.compile(r"pytorch_model[\w.-]*\.bin")
PROJECTION = "late.safetensors"
"""A reader's projection for late interaction."""
_SETTINGS = re.compile(r"[\w.-]+\.(json|txt|model|jinja)")
_MODULE_FOLDER = re.compile(r"\d+_\w+")
_MAX_DEPTH = 8
"""Levels of nested settings."""
_NOT_THE_MODEL = {"adapter_config.json", "ragx-record.json"}

# fmt: off
_BERT_LIKE = {
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "modernbert", "mpnet",
    "nomic_bert", "roberta", "xlm-roberta",
}
# fmt: on
_LLAMA_LIKE = {"gemma", "gemma2", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
KINDS: dict[Kind, str] = {
    "decoder": "a decoder (language model)",
    "embedder": "an embedder",
    "reader": "a trained reader",
    "reranker": "a reranker (cross-encoder)",
}


def model_files(paths: Iterable[str]) -> list[str]:
    """The files of a model among the POSIX paths of a repository or folder.

    These are settings, tokenizer and weights in the root and in the folders of sentence-transformers modules
    (`1_Pooling/`), without pickled weights if the folder has safetensors.
    """
    parts = [PurePosixPath(path) for path in paths]
    parts = [path for path in parts if all(_MODULE_FOLDER.fullmatch(parent) for parent in path.parts[:-1])]
    with_safetensors = {path.parent for path in parts if WEIGHTS.fullmatch(path.name)}
    return sorted(
        str(path)
        for path in parts
        if path.name not in _NOT_THE_MODEL
        and (
            path.name == PROJECTION
            or _SETTINGS.fullmatch(path.name)
            or WEIGHTS.fullmatch(path.name)
            or (PICKLED.fullmatch(path.name) and path.parent not in with_safetensors)
        )
    )


def files_in(folder: Path) -> list[str]:
    """`model_files` of a local folder."""
    return model_files(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def settings(folder: Path, name: str, kind: Kind | None) -> Kind:
    """Check the settings of the model in `folder` and return its kind.

    Raises:
        ModelError: a setting is unreadable, the model needs its own code, or it is not a `kind`.
    """
    _check_links(folder, name)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name} has no config.json: it is not a model folder")
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{name} is an adapter (adapter_config.json): merge it into its model first")
    for path in sorted(folder.rglob("*config.json")):
        values = _read_json(path, name)
        if isinstance(values, dict) and values.get("auto_map"):
            if path != folder / "config.json" or str(values.get("model_type")) not in _LLAMA_LIKE:
                raise ModelError(f"{name} needs its own code ({path.name}: auto_map), which ragx does not run")
            _say_ignored(name, str(values["model_type"]))
        if (kernel := _kernel(values)) is not None:
            raise ModelError(f"{name} needs its own code ({path.name}: {kernel}), which ragx does not run")
    modules = _modules(folder, name)
    for module in modules:
        if not module["type"].startswith("sentence_transformers."):
            raise ModelError(f"{name} needs its own code (modules.json: {module['type']}), which ragx does not run")
    config = _read_json(folder / "config.json", name)
    if not isinstance(config, dict):
        raise ModelError(f"{name}: config.json is not a JSON object")
    actual = _kind(config, modules=len(modules))
    if actual is None:
        description = f"architectures {config.get('architectures')}, model_type {config.get('model_type')!r}"
        raise ModelError(f"{name} is not a decoder, embedder, reader or reranker that ragx supports ({description})")
    if kind not in (None, actual):
        raise ModelError(f"{name} is {KINDS[actual]}; this needs {KINDS[kind]}")
    return actual


@cache_calls  # once a model
def _say_ignored(name: str, model_type: str) -> None:
    notice(f"{name}: its own code (config.json: auto_map) is ignored; it is read as a plain {model_type} decoder")


def _check_links(folder: Path, name: str) -> None:
    """Refuse links out of the folder, except ragx's own and those within the Hub's cache."""
    if folder.absolute().is_relative_to(cache.models()):
        return
    root = folder.resolve()
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    for path in [folder / file for file in _files(folder)]:
        if path.is_symlink() and not any(path.resolve().is_relative_to(place) for place in allowed):
            raise ModelError(
                f"{name}: {path.relative_to(folder)} is a link out of the model folder: copy the file into it"
            )


def _files(folder: Path) -> list[str]:
    """Files that a loader may read: those in the root and in the folders of modules."""
    inner = [path for path in folder.glob("*") if _MODULE_FOLDER.fullmatch(path.name)]
    return sorted(path.relative_to(folder).as_posix() for place in (folder, *inner) for path in place.glob("*"))


def _kernel(values: object, depth: int = 0) -> str | None:
    """A setting that makes transformers download compiled code from the Hub: an attention named owner/repository."""
    if not isinstance(values, dict) or depth > _MAX_DEPTH:
        return None
    for key, value in values.items():
        if "attn_implementation" in str(key) or "experts_implementation" in str(key):
            names = value.values() if isinstance(value, dict) else [value]
            if found := next((name for name in names if "/" in str(name)), None):
                return f"{key} {found}"
        if (inner := _kernel(value, depth + 1)) is not None:
            return inner
    return None


def base_of(folder: Path, name: str) -> tuple[str, Kind] | None:
    """The name and kind of the model whose weights a model was saved without; None if it is complete.

    A reader may lack its decoder, a reranker the embeddings of an embedder.

    Raises:
        ModelError: the settings cannot be read, or the other model has no name.
    """
    config = _read_json(folder / "config.json", name)
    kinds: tuple[Kind, ...] = ("decoder", "embedder")
    for kind in kinds:
        if isinstance(config, dict) and (base := config.get(kind)) is not None:
            if not isinstance(base, dict) or not isinstance(base.get("name"), str):
                raise ModelError(f"{name}: config.json does not name its {kind}")
            return str(base["name"]), kind
    return None


def weights(folder: Path, name: str) -> None:
    """Check that all safetensors files are in `folder` and that their headers fit their sizes.

    Raises:
        ModelError: a file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    files = [folder / path for path in files_in(folder) if path.endswith(".safetensors")]
    if not files:
        raise ModelError(f"{name} has no weights (model.safetensors, pytorch_model.bin or one .gguf file)")
    for path in files:
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{name}: {path.name} is damaged ({error})") from None
    if not (folder / "model.safetensors").is_file():
        for shard in sorted(set(shards(folder / INDEX, name).values())):
            if not (folder / shard).is_file():
                raise ModelError(f"{name}: {shard} is missing")


def shards(index: Path, name: str) -> dict[str, str]:
    """The file of each tensor, from the index of sharded weights; empty without an index.

    Raises:
        ModelError: the index cannot be read.
    """
    if not index.is_file():
        return {}
    values = _read_json(index, name)
    weight_map = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(weight_map, dict):
        raise ModelError(f"{name}: {index.name} has no weight_map")
    return {key: str(shard) for key, shard in weight_map.items()}


def architecture(folder: Path, name: str) -> None:
    """Check that the installed transformers supports the architecture of a model; a common one needs no import.

    Raises:
        ModelError: it does not.
    """
    config = _read_json(folder / "config.json", name)
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if str(model_type) in _BERT_LIKE | _LLAMA_LIKE:
        return
    from transformers import CONFIG_MAPPING

    if model_type is not None and str(model_type) not in CONFIG_MAPPING:
        raise ModelError(f"{name}: the installed transformers does not support the architecture {model_type}")


def _kind(config: dict[str, object], *, modules: int) -> Kind | None:
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    model_type = str(config.get("model_type"))
    if "encoder_config" in config or "extensible" in config or "LlamaForCausalContextLM" in names:
        return "reader"
    if modules < 2 and any(name.endswith("ForSequenceClassification") for name in names):
        return "reranker"  # an embedder has a module for pooling
    if modules or model_type in _BERT_LIKE:
        return "embedder"
    if any(name.endswith("ForCausalLM") for name in names) or model_type in _LLAMA_LIKE:
        return "decoder"
    return None


def _modules(folder: Path, name: str) -> list[dict[str, str]]:
    path = folder / "modules.json"
    if not path.is_file():
        return []
    values = _read_json(path, name)
    if not isinstance(values, list) or not all(isinstance(module, dict) for module in values):
        raise ModelError(f"{name}: modules.json is not a list of modules")
    modules = [{key: str(module.get(key, "")) for key in ("path", "type")} for module in values]
    for module in modules:
        if not (folder / module["path"]).resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{name}: modules.json names {module['path']}, which is outside the model folder")
        # a normalizing module has no settings, so it may have no folder
        if not (folder / module["path"]).is_dir() and not module["type"].endswith(".Normalize"):
            raise ModelError(f"{name}: the folder {module['path']} in modules.json is missing")
    return modules


def _read_json(path: Path, name: str) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{name}: cannot read {path.name} ({error})") from None
