from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = str(Path(__file__).parents[2])

pytest.importorskip("ray", reason="Ray is not installed: pip install 'ragx[ray]'")


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """A local cluster with two workers that have the tests' import path."""
    from ragx.distributed import cluster

    paths = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        with cluster(cpus=2, object_store=80 << 20):
            yield


@pytest.fixture(scope="session")
def kill_worker() -> Callable[[int], None]:
    """Kill a process and wait for its end."""

    def kill(pid: int) -> None:
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                time.sleep(0.05)

    return kill
