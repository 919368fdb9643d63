"""`ragx serve` under load: `python -m benchmarks.serve`, or only one of `throughput` and `load`.

throughput: 8 clients at once against the same questions one after another, in turn.
load: 50 clients of 10 turns each, of whom 30% leave amid an answer and 10% before it begins; what they were told, what
is still decoded a second after the last has gone, and how the server's memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import httpx
import psutil

from benchmarks import sample
from ragx.rag import DEFAULT_MODEL

CLIENTS = 8
ROUNDS = 2
QUESTIONS = [
    sample.QUESTION,
    "What is an abacus used for?",
    "Who was Abraham Lincoln?",
    "What is the capital of Alabama?",
    "Who was the teacher of Aristotle?",
    "What is anarchism?",
    "What causes autism?",
    "What is algebra?",
]
CHAT = "/v1/chat/completions"


@dataclass
class Served:
    """A server in a process of its own."""

    url: str
    process: psutil.Process

    def gauge(self, name: str) -> float:
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@contextmanager
def serve(*options: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "ragx", "serve", "--index", str(sample.INDEX), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = next((line for line in process.stderr if "listening on" in line), None)
            if line is None:
                raise SystemExit("the server did not start: `ragx serve` says why")
            yield Served(line.split()[2].removesuffix("/v1;"), psutil.Process(process.pid))
        finally:
            process.terminate()


def question(number: int, *, max_tokens: int, n_decoder: int, history: list[dict[str, str]]) -> dict[str, Any]:
    """A request. Sampled at a high temperature, answers go on until they are cut, as those of larger models do."""
    asked = {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}
    return {
        "model": DEFAULT_MODEL,
        "messages": [*history, asked],
        "max_tokens": max_tokens,
        "temperature": 1.5,
        "seed": number,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ragx": {"n_decoder": n_decoder},
    }


async def ask(client: httpx.AsyncClient, request: dict[str, Any]) -> tuple[float, int]:
    """Seconds to the first token, and tokens."""
    start = time.perf_counter()
    first, tokens = 0.0, 0
    async with client.stream("POST", CHAT, json=request) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter() - start
                if spent := json.loads(line[6:]).get("usage"):
                    tokens = spent["completion_tokens"]
    return first, tokens


async def throughput(served: Served, n_decoder: int, max_tokens: int) -> list[str]:
    """Rows of a Markdown table."""
    requests = [question(n, max_tokens=max_tokens, n_decoder=n_decoder, history=[]) for n in range(CLIENTS)]
    seconds = {"one after another": 0.0, f"{CLIENTS} at once": 0.0}
    answers: dict[str, list[tuple[float, int]]] = {how: [] for how in seconds}
    async with httpx.AsyncClient(base_url=served.url, timeout=600) as client:
        await ask(client, {**requests[0], "max_tokens": 1})  # loads what is loaded when needed
        for _ in range(ROUNDS):
            for how in seconds:
                start = time.perf_counter()
                if how == "one after another":
                    answers[how] += [await ask(client, request) for request in requests]
                else:
                    answers[how] += await asyncio.gather(*(ask(client, request) for request in requests))
                seconds[how] += time.perf_counter() - start
    rows, alone = [], 0.0
    for how, took in seconds.items():
        speed = sum(tokens for _, tokens in answers[how]) / took
        alone = alone or speed
        cuts = quantiles([first for first, _ in answers[how]], n=20, method="inclusive")
        rows.append(f"| {n_decoder} | {how} | {speed:.1f} | {speed / alone:.2f} | {cuts[9]:.2f} | {cuts[18]:.2f} |")
    return rows


async def load(served: Served, clients: int, turns: int, seed: int) -> Counter[str]:
    """What became of the requests: by status, or how the client left."""
    outcomes: Counter[str] = Counter()

    async def converse(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        history: list[dict[str, str]] = []
        async with httpx.AsyncClient(base_url=served.url, timeout=600) as client:
            for turn in range(turns):
                asked = question(number + turn, max_tokens=8, n_decoder=1, history=history[-2:])
                fate = chance.random()
                if fate < 0.1:
                    try:
                        await client.post(CHAT, json=asked, timeout=httpx.Timeout(600, read=0.2))
                    except httpx.ReadTimeout:
                        outcomes["dropped"] += 1
                    continue
                text = ""
                while True:
                    async with client.stream("POST", CHAT, json=asked) as response:
                        outcomes[str(response.status_code)] += 1
                        pieces = 0
                        async for line in response.aiter_lines():
                            if line.startswith("data: {") and (choices := json.loads(line[6:]).get("choices")):
                                text += choices[0]["delta"].get("content", "")
                                pieces += 1
                                if fate < 0.4 and pieces > 3:
                                    outcomes["cancelled"] += 1
                                    break
                        if response.status_code != 429:
                            break
                        await asyncio.sleep(float(response.headers["Retry-After"]))
                history += [asked["messages"][-1], {"role": "assistant", "content": text}]

    await asyncio.gather(*(converse(number) for number in range(clients)))
    return outcomes


def run_throughput(max_tokens: int) -> None:
    print(f"{CLIENTS} clients, answers of at most {max_tokens} tokens, {ROUNDS} rounds in turn.\n")
    print("| passages in the prompt | | tokens/s | ratio | first token p50, s | p95, s |\n|---|---|---|---|---|---|")
    with serve() as served:
        for n_decoder in (10, 3):
            print("\n".join(asyncio.run(throughput(served, n_decoder, max_tokens))), flush=True)


def run_load(clients: int, turns: int) -> None:
    with serve() as served:
        asyncio.run(load(served, clients, turns, seed=0))  # memory is taken for the first time
        before = served.process.memory_info().rss
        start = time.perf_counter()
        outcomes = asyncio.run(load(served, clients, turns, seed=1))
        seconds = time.perf_counter() - start
        time.sleep(1)
        alive = served.gauge("ragx_answers_running") + served.gauge("ragx_answers_waiting")
        after = served.process.memory_info().rss
    drift = (after - before) / before * 1000 / (clients * turns)
    print(f"\n{clients} clients of {turns} turns in {seconds:.0f} s: {dict(sorted(outcomes.items()))}")
    print(f"decoded a second after the last client: {alive:.0f}")
    print(f"resident memory: {before / 1e6:.0f} MB, then {after / 1e6:.0f} MB; {drift:+.1%} per 1,000 requests")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__.partition("\n")[0])
    parser.add_argument("only", nargs="?", choices=["throughput", "load"])
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    if options.only != "load":
        run_throughput(options.max_tokens)
    if options.only != "throughput":
        run_load(options.clients, options.turns)


if __name__ == "__main__":
    main()
