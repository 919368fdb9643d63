"""Models on this machine: a folder, a .gguf file, or a model bundled with ragx."""

from __future__ import annotations

import hashlib
import shutil
from importlib.resources import files
from pathlib import Path

from ragx.errors import ModelError
from ragx.models import cache, check, convert, registry
from ragx.models.registry import Kind

BUNDLED = Path(str(files("ragx_weights")))
"""The bundled readers and rerankers, one folder each, in a data package separate from the code."""


def bundled() -> dict[str, Path]:
    """Bundled models by name."""
    return {folder.name: folder for folder in sorted(BUNDLED.glob("*")) if (folder / "config.json").is_file()}


def find(name: str) -> Path | None:
    """The folder or .gguf file of a model whose path is `name` or that is bundled; None for other names.

    Raises:
        ModelError: `name` is a path, but not of a model.
    """
    if name in bundled():
        return bundled()[name]
    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
        is_model = is_folder and ((path / "config.json").is_file() or any(path.glob("*.gguf")))
    except (OSError, RuntimeError) as error:
        raise ModelError(f"cannot access {name}: {error}") from None
    if is_model or (is_file and path.suffix == ".gguf"):
        return path
    if is_file:
        raise ModelError(f"{name} is neither a model folder nor a .gguf file")
    if name in {entry.name for entry in registry.entries()}:
        return None
    if is_folder:
        raise ModelError(f"{name} has no config.json: it is not a model folder")
    if path.is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"{name} does not exist")
    return None


def prepare(path: Path, name: str, kind: Kind | None) -> Path:
    """The folder of a local model if its weights are safetensors, otherwise of a converted copy in the cache.

    Raises:
        ModelError: the model is damaged, cannot be converted, needs its own code or is not a `kind`.
    """
    files = [path.name] if path.is_file() else check.files_in(path)
    root = path.parent if path.is_file() else path
    if path.is_dir() and not any(file.endswith((".safetensors", ".bin")) for file in files):
        files += sorted(file.name for file in path.glob("*.gguf"))
    to_convert = [file for file in files if file.endswith((".bin", ".gguf"))]
    if (path / "config.json").is_file():
        check.settings(path, name, kind)
    if not to_convert:
        check.weights(path, name)
        return path

    stats = [(file, (root / file).stat()) for file in files]
    state = str([(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats])
    location = str(path.resolve())
    source = f"folder {location} {hashlib.sha256(state.encode()).hexdigest()[:12]}"
    copy = cache.models() / f"local--{path.stem}-{hashlib.sha256(location.encode()).hexdigest()[:12]}"

    def fill(folder: Path) -> tuple[str, str | None]:
        for file in files:
            (folder / file).parent.mkdir(exist_ok=True)
            if file in to_convert:
                (folder / file).symlink_to((root / file).resolve())
            else:
                shutil.copyfile(root / file, folder / file)
        return source, convert.finish(folder, name, kind)

    record = cache.read_record(copy)
    if record and record.source == source and cache.damage(copy) is None:
        return copy
    return cache.publish(copy, name, fill, source)
