"""Searches that fan out to machines: a simulation with queues, slow shards and a lost machine.

    python -m benchmarks.fan_out [--passages 200000000] [--milliseconds 32.3] [--p95 1.44]

Questions arrive at random (a Poisson process). Each is searched on every machine, whose cores take the searches of its
shards in order of arrival; it is answered when the last machine is. The time of a shard is log-normal around the
measured one; one search in `--slow-every` takes ten times as long. With replicas, ragx's own policy chooses machines
(`ragx.distributed.replicas`): after `--hedge` ms, another may be asked too. Network and merging take no time.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.scale import PASSAGES, SHARD
from benchmarks.tables import markdown
from ragx.distributed.replicas import Replicas

QUESTIONS = 4000
P95 = 1.6449
"""Standard deviations of a normal distribution up to its 95th percentile."""
MACHINES = (8, 32, 128)
LOADS = (0.1, 0.5, 0.8)


@dataclass(frozen=True)
class Cluster:
    """Machines that each have some of the shards."""

    shards: int
    """On each machine."""
    groups: int
    """Machines with different shards."""
    replicas: int = 1
    """Machines with the same shards."""
    silent: bool = False
    """Whether the first machine never answers."""
    cores: int = 16
    milliseconds: float = 32.3
    """Median time of a shard on a core."""
    p95: float = 1.44
    """Its 95th percentile, as a multiple."""
    slow_every: int = 1000
    hedge: float = 200.0
    timeout: float = 30_000.0


def simulate(cluster: Cluster, load: float, *, questions: int = QUESTIONS, seed: int = 0) -> tuple[np.ndarray, float]:
    """Milliseconds until each question is answered, (questions,), and the share of shards that were never searched.

    `load`: the work that arrives, as a share of what the cores of all machines can do.
    """
    rng = np.random.default_rng(seed)
    sigma = math.log(cluster.p95) / P95
    mean = cluster.milliseconds * math.exp(sigma**2 / 2) * (1 + 9 / cluster.slow_every)
    gap = cluster.shards * mean / (load * cluster.replicas * cluster.cores)
    asked = np.cumsum(rng.exponential(gap, questions))
    machines = [[_Machine(cluster.cores) for _ in range(cluster.replicas)] for _ in range(cluster.groups)]
    replicas = [Replicas(cluster.replicas) for _ in range(cluster.groups)]
    answered = np.full((questions, cluster.groups), np.inf)
    # (time, question, group, machines that were asked before)
    events: list[tuple[float, int, int, list[int]]] = [
        (time, number, group, []) for number, time in enumerate(asked.tolist()) for group in range(cluster.groups)
    ]
    heapq.heapify(events)
    while events:
        time, number, group, before = heapq.heappop(events)
        for each, machine in enumerate(machines[group]):
            for _ in range(machine.finished(time)):
                replicas[group].answered(each)
        if answered[number, group] <= time or time > asked[number] + cluster.timeout:
            continue
        place = replicas[group].another(before, has_failed=False) if before else replicas[group].first()
        if place is not None:
            times = cluster.milliseconds * np.exp(sigma * rng.standard_normal(cluster.shards))
            times[rng.random(cluster.shards) < 1 / cluster.slow_every] *= 10
            is_silent = cluster.silent and (group, place) == (0, 0)
            end = math.inf if is_silent else machines[group][place].run(time, times.tolist())
            answered[number, group] = min(answered[number, group], end)
            before = [*before, place]
        if len(before) < cluster.replicas and answered[number, group] > time + cluster.hedge:
            heapq.heappush(events, (time + cluster.hedge, number, group, before))
    waits = answered - asked[:, None]
    late = waits > cluster.timeout
    return np.minimum(waits, cluster.timeout).max(axis=1), float(late.mean())


class _Machine:
    """Its cores take searches of shards in order of arrival."""

    def __init__(self, cores: int) -> None:
        self._free_at = [0.0] * cores
        self._ends: list[float] = []

    def run(self, time: float, shards: Sequence[float]) -> float:
        """When searches of so many milliseconds, which arrive at `time`, have ended."""
        last = time
        for milliseconds in shards:
            end = max(time, self._free_at[0]) + milliseconds
            heapq.heapreplace(self._free_at, end)
            last = max(last, end)
        heapq.heappush(self._ends, last)
        return last

    def finished(self, time: float) -> int:
        """How many have ended since the last call."""
        number = 0
        while self._ends and self._ends[0] <= time:
            heapq.heappop(self._ends)
            number += 1
        return number


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=PASSAGES)
    parser.add_argument("--milliseconds", type=float, default=32.3, help="median time of a million vectors on a core")
    parser.add_argument("--p95", type=float, default=1.44, help="95th percentile of it, as a multiple")
    parser.add_argument(
        "--slow-every", type=int, default=1000, help="one search of a shard in this many takes ten times as long"
    )
    parser.add_argument("--hedge", type=float, default=200.0, help="ms after which the next replica is asked")
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in ("milliseconds", "p95", "slow_every", "hedge")}
    rows = []
    for groups in MACHINES:
        shards = math.ceil(options.passages / SHARD / groups)
        for replicas, silent in ((1, False), (2, False), (2, True)):
            cluster = Cluster(shards, groups, replicas, silent, **given)
            cells = []
            for load in LOADS:
                waits, missing = simulate(cluster, load)
                p50, p99 = np.percentile(waits, (50, 99))
                cells.append(f"{p50:,.0f} / {p99:,.0f}" + (f", {missing:.1%} not searched" if missing else ""))
            rows.append((groups * replicas, replicas, shards, "all but one" if silent else "all", *cells))
    columns = ("machines", "replicas", "shards on each", "answering", *(f"load {load:.0%}" for load in LOADS))
    print(markdown(columns, rows))


if __name__ == "__main__":
    main()
