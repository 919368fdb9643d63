"""Connect to a Ray cluster, or start a temporary local one."""

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

START_ADVICE = "start one with `ray start --head`, or leave out --address"


@contextmanager
def cluster(address: str | None = None, *, cpus: int | None = None, object_store: int | None = None) -> Iterator[None]:
    """Connect to a Ray cluster within the block; keep a connection that the program already has (`ray.init`).

    Args:
        address: `auto` for the cluster on this machine or in `RAY_ADDRESS`, or `HOST:PORT`; None: start a local cluster
            for the duration of the block, which accepts only this user's Ray token.
        cpus: workers of a local cluster; None: one per core.
        object_store: size in bytes of a local cluster's object store, beyond which Ray spills to disk; None: Ray's
            default.

    Raises:
        ConfigError: there is no cluster at the address.
        RagxError: the local cluster does not start.
    """
    if ray.is_initialized():
        yield
        return
    if address not in (None, "auto"):
        _check_reachable(address)
    # ragx reports no usage statistics; a user's own cluster keeps its setting
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"address": address or "local"}
        if address is None:
            # a temporary folder, because Ray's default one keeps the logs of every run
            folder = stack.enter_context(TemporaryDirectory(prefix="ragx-", ignore_cleanup_errors=True))
            options |= {"_temp_dir": folder, "include_dashboard": False}
            options |= {"num_cpus": cpus, "object_store_memory": object_store}
        stack.callback(ray.shutdown)
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
        except Exception as error:  # Ray raises a plain Exception if a machine is too slow to start it
            if address is None:
                raise RagxError(f"Ray does not start: {one_line(error)}") from None
            raise ConfigError(f"no Ray cluster at {address} ({one_line(error)}): {START_ADVICE}") from None
        yield


def _check_reachable(address: str) -> None:
    """Raise a `ConfigError` if no process listens at the address; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ConfigError(f"--address {address} is neither auto nor HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address} ({one_line(error)}): {START_ADVICE}") from None


def worker_device(device: str | None) -> str:
    """The device of the cluster's workers: `cuda` (one GPU per worker) or `cpu` (one core per worker).

    None and `auto` mean GPUs if the cluster has any.

    Raises:
        ConfigError: the device is `cuda` and the cluster has no GPU, or the device is unsupported.
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
    """The number of workers with that device that fit on the cluster."""
    return max(1, int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 1)))


@contextmanager
def raise_worker_errors() -> Iterator[None]:
    """Re-raise a worker's `RagxError` as if raised here, and failures of Ray as a `RagxError`.

    Other exceptions of a worker are bugs and keep the worker's traceback.
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
    """The first sentence of an error's message."""
    return str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__


def node() -> str:
    """The name of this node, for messages."""
    return str(ray.util.get_node_ip_address())
