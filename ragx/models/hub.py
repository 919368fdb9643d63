"""Models on the Hugging Face Hub, or the mirror that `HF_ENDPOINT` names; `HF_TOKEN` is honoured.

A Hub that does not answer is given up soon, because another source may have the model.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable
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
    """Whether the Hub answers within its deadline, be it with a refusal."""
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


def fetch(entry: Entry, kind: Kind | None, into: Path) -> str:
    """Download the model's files into `into` and return where they came from.

    The settings come first, so that a model that ragx cannot use costs no large download.

    Raises:
        HubError: the Hub does not answer, or does not have or give the model.
        ModelError: the model is not usable or a file has a wrong checksum.
    """
    from huggingface_hub import HfApi, snapshot_download

    def ask() -> tuple[str, list[RepoSibling]]:
        info = HfApi().model_info(entry.hub, revision=entry.revision, files_metadata=True, timeout=_DEADLINE)
        return info.sha or "main", list(info.siblings or [])

    commit, listed = _explained(entry.hub, lambda: _within(_DEADLINE, ask), "the Hub does not answer")
    files = {file.rfilename: file for file in listed}
    names = check.model_files(files)
    heavy = [name for name in names if name.endswith((".safetensors", ".bin"))]
    light = [name for name in names if name not in heavy]

    def download(wanted: list[str]) -> None:
        if wanted:  # an empty list of patterns would mean every file
            snapshot_download(entry.hub, revision=commit, allow_patterns=wanted, local_dir=into)

    broken = f"the download of {entry.hub} broke off"
    _explained(entry.hub, lambda: download(light), broken)
    check.settings(into, entry.name, kind)
    _explained(entry.hub, lambda: download(heavy), broken)
    shutil.rmtree(into / ".cache", ignore_errors=True)  # huggingface_hub's notes on the download
    for name in names:
        _compare(into / name, files[name], entry.hub)
    return f"hub {entry.hub}@{commit}"


def _compare(path: Path, listed: RepoSibling, repository: str) -> None:
    if not path.is_file():
        raise HubError(f"the Hub did not give {listed.rfilename} of {repository}")
    expected = listed.lfs.sha256 if listed.lfs else None
    if expected and cache.sha256_of(path) != expected:
        found = cache.sha256_of(path)
        raise ModelError(
            f"{listed.rfilename} of {repository} has a wrong checksum: SHA-256 {found} instead of {expected}"
        )


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
