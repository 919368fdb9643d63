"""A Ray cluster: the one at an address, or a local one for as long as it is needed."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import ray

from ragx.errors import ConfigError, RagxError

START = "start one with `ray start --head`, or leave out --address"


@contextmanager
def cluster(address: str | None = None, *, cpus: int | None = None, object_store: int | None = None) -> Iterator[None]:
    """Use a Ray cluster; one that the program has connected to already (`ray.init`) is used as it is.

    Args:
        address: `auto` for the cluster that runs on this machine or that `RAY_ADDRESS` names, or `HOST:PORT`; None: a
            local one, which lives as long as the block and obeys those alone who hold this user's Ray token.
        cpus: workers of a local cluster; None: one a core.
        object_store: bytes that a local cluster's workers pass on in memory, and beyond them on disk; None: Ray's own.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    if address not in (None, "auto"):
        _check_reachable(address)
    # nothing that ragx starts reports to others; a cluster of the user's own has its own setting
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"address": address or "local"}
        if address is None:
            # a folder that goes when the cluster goes: Ray's own would keep the logs of every run
            folder = stack.enter_context(TemporaryDirectory(prefix="ragx-", ignore_cleanup_errors=True))
            options |= {"_temp_dir": folder, "include_dashboard": False}
            options |= {"num_cpus": cpus, "object_store_memory": object_store}
        stack.callback(ray.shutdown)
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
        except Exception as error:  # Ray raises this very class where a machine is too slow to start it
            if address is None:
                raise RagxError(f"Ray does not start: {one_line(error)}") from None
            raise ConfigError(f"no Ray cluster at {address} ({one_line(error)}): {START}") from None
        yield


def _check_reachable(address: str) -> None:
    """Raise a `ConfigError` where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ConfigError(f"--address {address} is neither auto nor HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address} ({one_line(error)}): {START}") from None


def worker_device(device: str | None) -> str:
    """What the workers of the cluster compute on: `cuda`, one GPU a worker, or `cpu`, one core a worker.

    None and `auto` mean GPUs where the cluster has any.

    Raises:
        ConfigError: a GPU is asked for and the cluster has none, or the device is another.
    """
    gpus = ray.cluster_resources().get("GPU", 0) > 0
    if device in (None, "auto"):
        return "cuda" if gpus else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r} cannot be used on a Ray cluster: use cpu, cuda or auto")
    if device == "cuda" and not gpus:
        raise ConfigError("the Ray cluster has no GPU: leave out --device")
    return device


def workers(device: str) -> int:
    """How many workers of that device the cluster has room for."""
    return max(1, int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 1)))


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Raise what a worker raised as if it had been raised here, and a failure of Ray as a `RagxError`.

    A worker's exception that is no `RagxError` is a defect and stays as it is, with the worker's traceback.
    """
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause: BaseException = error
        while isinstance(cause, ray.exceptions.RayTaskError) and cause.cause is not cause:
            cause = cause.cause
        if isinstance(cause, RagxError):
            raise cause from None
        raise
    except ray.exceptions.RayError as error:
        raise RagxError(f"Ray: {one_line(error)}; run it again to continue") from None


def one_line(error: BaseException) -> str:
    """The beginning of what an error says."""
    return str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__


def node() -> str:
    """The name of the node that this runs on, for messages."""
    return str(ray.util.get_node_ip_address())
