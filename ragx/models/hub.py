"""Download models from the Hugging Face Hub, or the mirror in `HF_ENDPOINT`, with `HF_TOKEN` if set.

Files go into the Hub's own cache (`HF_HOME`), which other programs share, and are linked from there. The timeout is
short, because another source may have the model.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ragx.errors import ModelError
from ragx.models import cache, check
from ragx.models.registry import Entry, Kind, entries

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_DEADLINE = 4.0
"""Seconds for the first answer, including name resolution and retries."""

T = TypeVar("T")


class HubError(Exception):
    """The Hub cannot provide a model; another source may. The message is one line."""


def answers() -> bool:
    """Whether the Hub answers within the deadline, even with a refusal."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub_id = next(entry.hub for entry in entries())
    try:
        _with_deadline(_DEADLINE, lambda: HfApi().model_info(hub_id, timeout=_DEADLINE))
    except HfHubHTTPError:
        return True
    except Exception:  # any failure means that it is unreachable
        return False
    return True


def fetch(entry: Entry, kind: Kind | None, into: Path, *, offline: bool = False) -> str:
    """Download the model's files into the Hub's cache, link them into `into` and return their source.

    Settings come first, so that an unusable model costs no large download. Offline, or if the Hub does not answer, a
    model that is complete in the Hub's cache is used.

    Raises:
        HubError: the Hub does not answer, does not have the model or refuses it, and its cache does not have it either.
        ModelError: the model is unusable or a file has a wrong checksum.
    """
    from huggingface_hub import snapshot_download

    try:
        if offline:
            raise HubError("ragx is offline")
        commit, files = _listing(entry)
    except HubError as error:
        commit, files = _cached_listing(entry, error)
        offline = True
    names = check.model_files(files)
    weights = [name for name in names if name.endswith((".safetensors", ".bin"))]
    settings = [name for name in names if name not in weights]

    def link(names: list[str], *, force: bool = False) -> None:
        if not names:  # an empty list of patterns would mean all files
            return
        nonlocal commit
        download = partial(
            snapshot_download, allow_patterns=names, revision=commit, local_files_only=offline, force_download=force
        )
        interrupted = f"the download of {entry.hub} was interrupted"
        snapshot = Path(_as_hub_error(entry.hub, lambda: download(entry.hub), interrupted))
        commit = snapshot.name
        for name in names:
            if not (snapshot / name).is_file():
                raise HubError(f"the Hub did not send {name} of {entry.hub}")
            (into / name).parent.mkdir(exist_ok=True)
            (into / name).unlink(missing_ok=True)
            (into / name).symlink_to((snapshot / name).resolve())
        damaged = {name: problem for name in names if (problem := _difference(into / name, files[name]))}
        if damaged and (force or offline):
            name, problem = next(iter(damaged.items()))
            raise ModelError(f"{name} of {entry.hub} has {problem}")
        link([*damaged], force=True)  # huggingface_hub keeps a damaged file unless forced

    link(settings)
    check.settings(into, entry.name, kind)
    link(weights)
    return f"hub {entry.hub}@{commit}"


def _listing(entry: Entry) -> tuple[str, dict[str, RepoSibling]]:
    """The commit of a model on the Hub and its files by name."""
    from huggingface_hub import HfApi

    info = _as_hub_error(
        entry.hub,
        lambda: _with_deadline(
            _DEADLINE,
            lambda: HfApi().model_info(entry.hub, revision=entry.revision, files_metadata=True, timeout=_DEADLINE),
        ),
        "the Hub does not answer",
    )
    return info.sha or "main", {file.rfilename: file for file in info.siblings or []}


def _cached_listing(entry: Entry, error: HubError) -> tuple[str, dict[str, RepoSibling]]:
    """The same from the Hub's cache, or raise `error`.

    Only a listing shows whether a cached model is complete: its tokenizer or a pooling module may be missing.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, HFValidationError
    from huggingface_hub.hf_api import RepoSibling

    try:
        files = get_cached_repo_tree(entry.hub, revision=entry.revision)
    except (CachedRepoTreeNotFoundError, HFValidationError):
        raise error from None
    return entry.revision or "main", {file.path: RepoSibling(rfilename=file.path, size=file.size) for file in files}


def _difference(path: Path, listed: RepoSibling) -> str | None:
    """How a file differs from the Hub's listing, or None. Large files are listed by SHA-256, others by Git's id."""
    size = path.stat().st_size
    if listed.lfs and cache.sha256_of(path) != listed.lfs.sha256:
        return f"a wrong checksum: SHA-256 {cache.sha256_of(path)} instead of {listed.lfs.sha256}"
    if listed.size is not None and size != listed.size:
        return f"{size} bytes instead of {listed.size}"
    if not listed.lfs and listed.blob_id:
        blob = hashlib.sha1(b"blob %d\0" % size + path.read_bytes(), usedforsecurity=False)
        return None if blob.hexdigest() == listed.blob_id else "a wrong checksum"
    return None


def _with_deadline(seconds: float, call: Callable[[], T]) -> T:
    """Run `call` in a thread, abandoned after the deadline: name resolution cannot be interrupted."""
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def _as_hub_error(repository: str, call: Callable[[], T], otherwise: str) -> T:
    """Run `call` and turn errors of the Hub or the network into a HubError; disk errors stay an OSError."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return call()
    except GatedRepoError:
        reason = f"{repository} is gated: accept its terms on the Hub, then set HF_TOKEN"
    except RepositoryNotFoundError:
        reason = f"the Hub has no model {repository}, or it is private (set HF_TOKEN)"
    except RevisionNotFoundError:
        reason = f"the Hub does not have the expected revision of {repository}"
    except HFValidationError:
        reason = f"{repository} is not a valid Hub id"
    except HfHubHTTPError as error:
        reason = f"the Hub refused {repository} (HTTP {error.response.status_code})"
    except Exception as error:
        if isinstance(error, OSError) and error.errno and not isinstance(error, (ConnectionError, TimeoutError)):
            raise
        reason = f"{otherwise} ({type(error).__name__})"
    raise HubError(reason)
