"""Models on the Hugging Face Hub, or the mirror that `HF_ENDPOINT` names; `HF_TOKEN` is used.

Files are downloaded into the Hub's own cache (`HF_HOME`), which other programs share, and linked from there.
A Hub that does not answer is given up soon, because another source may have the model.
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
"""Seconds for the first answer, name resolution and retries included."""

T = TypeVar("T")


class HubError(Exception):
    """The Hub cannot give this model; another source may. The message is one line."""


def answers() -> bool:
    """Whether the Hub answers within its deadline, even if it refuses."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub_id = next(entry.hub for entry in entries())
    try:
        _within(_DEADLINE, lambda: HfApi().model_info(hub_id, timeout=_DEADLINE))
    except HfHubHTTPError:
        return True
    except Exception:  # whatever keeps it from answering
        return False
    return True


def fetch(entry: Entry, kind: Kind | None, into: Path, *, offline: bool = False) -> str:
    """Download the model's files into the Hub's cache, link them into `into` and return where they came from.

    The settings come first, so that a model that ragx cannot use costs no large download. Offline, or if the Hub does
    not answer, a model that is complete in the Hub's cache is used as it is.

    Raises:
        HubError: the Hub does not answer, does not have the model or refuses it, and its cache does not have it either.
        ModelError: the model is not usable or a file has a wrong checksum.
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
    heavy = [name for name in names if name.endswith((".safetensors", ".bin"))]
    light = [name for name in names if name not in heavy]

    def link(wanted: list[str], *, again: bool = False) -> None:
        if not wanted:  # an empty list of patterns would mean every file
            return
        nonlocal commit
        download = partial(
            snapshot_download, allow_patterns=wanted, revision=commit, local_files_only=offline, force_download=again
        )
        snapshot = Path(_explained(entry.hub, lambda: download(entry.hub), f"the download of {entry.hub} broke off"))
        commit = snapshot.name
        for name in wanted:
            if not (snapshot / name).is_file():
                raise HubError(f"the Hub did not give {name} of {entry.hub}")
            (into / name).parent.mkdir(exist_ok=True)
            (into / name).unlink(missing_ok=True)
            (into / name).symlink_to((snapshot / name).resolve())
        wrong = {name: how for name in wanted if (how := _difference(into / name, files[name]))}
        if wrong and (again or offline):
            name, how = next(iter(wrong.items()))
            raise ModelError(f"{name} of {entry.hub} has {how}")
        link([*wrong], again=True)  # huggingface_hub keeps a damaged file unless told to download it again

    link(light)
    check.settings(into, entry.name, kind)
    link(heavy)
    return f"hub {entry.hub}@{commit}"


def _listing(entry: Entry) -> tuple[str, dict[str, RepoSibling]]:
    """The commit of a model and its files by name, as the Hub has them."""
    from huggingface_hub import HfApi

    info = _explained(
        entry.hub,
        lambda: _within(
            _DEADLINE,
            lambda: HfApi().model_info(entry.hub, revision=entry.revision, files_metadata=True, timeout=_DEADLINE),
        ),
        "the Hub does not answer",
    )
    return info.sha or "main", {file.rfilename: file for file in info.siblings or []}


def _cached_listing(entry: Entry, error: HubError) -> tuple[str, dict[str, RepoSibling]]:
    """The same as far as the Hub's cache knows it, or else `error`.

    Only a listing says whether a cached model is complete: the tokenizer or a pooling module may never have been asked
    for.
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
    """Say how a file differs from the Hub's listing, or None. Large files are listed by SHA-256, others by Git's id."""
    size = path.stat().st_size
    if listed.lfs and cache.sha256_of(path) != listed.lfs.sha256:
        return f"a wrong checksum: SHA-256 {cache.sha256_of(path)} instead of {listed.lfs.sha256}"
    if listed.size is not None and size != listed.size:
        return f"{size} bytes instead of {listed.size}"
    if not listed.lfs and listed.blob_id:
        blob = hashlib.sha1(b"blob %d\0" % size + path.read_bytes(), usedforsecurity=False)
        return None if blob.hexdigest() == listed.blob_id else "a wrong checksum"
    return None


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Run `call` in a thread that is left behind when it takes longer: a hanging name resolution cannot be stopped."""
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


def _explained(repository: str, call: Callable[[], T], otherwise: str) -> T:
    """Run `call`; what the Hub or the way to it does wrong becomes a HubError, a failing disk stays an OSError."""
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
