"""`ragx serve` under load: `python -m benchmarks.serve`, or only one of `throughput` and `load`.

throughput: 8 clients at once against the same questions one after another, in turn.
load: 50 clients of 10 turns each, of whom 30% leave amid an answer and 10% before it begins; what they were told, what
is still decoded a second after the last has gone, and how the server's memory grows. Exits with 1 where a target is
missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
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
SHORT, LONG = 4, 512
"""Tokens of an answer: of one that is read, and of one whose client leaves, which nobody but the server ends soon."""
LEFT_AMID, LEFT_BEFORE = "left amid the answer", "left before it"
PATIENCE = 0.2
"""Seconds after which a client leaves before its answer."""
CANCELLED = 'ragx_answers_total{finish="cancelled"}'
MAX_DRIFT = 0.02
"""Of the server's memory, per 1,000 requests."""


@dataclass
class Served:
    """A server in a process of its own."""

    url: str
    process: psutil.Process

    def metric(self, name: str) -> float:
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def alive(self) -> float:
        """Answers being decoded or about to be."""
        return self.metric("ragx_answers_running") + self.metric("ragx_answers_waiting")


@contextmanager
def serve(*options: str) -> Iterator[Served]:
    """A server whose messages appear among ours."""
    command = [sys.executable, "-m", "ragx", "serve", "--index", str(sample.INDEX), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        stderr = process.stderr
        assert stderr is not None
        try:
            for line in stderr:
                sys.stderr.write(line)
                if "listening on" in line:
                    break
            else:
                raise SystemExit("the server did not start")
            threading.Thread(target=lambda: sys.stderr.writelines(stderr), daemon=True).start()
            yield Served(line.split()[2].removesuffix("/v1;"), psutil.Process(process.pid))
        finally:
            process.terminate()


def question(
    number: int, *, max_tokens: int, prompt_passages: int, k: int = 60, history: Sequence[dict[str, str]] = ()
) -> dict[str, Any]:
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
        "ragx": {"prompt_passages": prompt_passages, "k": k},
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


async def throughput(served: Served, prompt_passages: int, max_tokens: int) -> list[str]:
    """Rows of a Markdown table."""
    requests = [question(n, max_tokens=max_tokens, prompt_passages=prompt_passages) for n in range(CLIENTS)]
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
        rows.append(
            f"| {prompt_passages} | {how} | {speed:.1f} | {speed / alone:.2f} | {cuts[9]:.2f} | {cuts[18]:.2f} |"
        )
    return rows


async def attempt(client: httpx.AsyncClient, asked: dict[str, Any], leaves: str) -> tuple[str, str, float]:
    """What became of a request, the text that came, and after how many seconds to try again.

    `leaves`: `LEFT_AMID` or `LEFT_BEFORE`, or empty where the client stays.
    """
    text = ""
    try:
        async with (
            asyncio.timeout(PATIENCE if leaves == LEFT_BEFORE else None),
            client.stream("POST", CHAT, json=asked) as response,
        ):
            if response.status_code != 200:
                return str(response.status_code), "", float(response.headers.get("Retry-After", 1))
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    return "200", text, 0
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    if error := event.get("error"):
                        return f"200, then {error['message']}", text, 0
                    text += "".join(choice["delta"].get("content", "") for choice in event["choices"])
                    if text and leaves:
                        return leaves, text, 0
    except TimeoutError:
        return LEFT_BEFORE, "", 0
    except httpx.TransportError as error:
        return type(error).__name__, text, 0
    return "200, cut short", text, 0


async def load(served: Served, clients: int, turns: int) -> Counter[str]:
    """What became of the requests: by status, or how the client left. They are the same ones whenever it runs."""
    outcomes: Counter[str] = Counter()

    async def converse(client: httpx.AsyncClient, number: int) -> None:
        chance = random.Random(number)
        history: list[dict[str, str]] = []
        for turn in range(turns):
            leaves = chance.choices(["", LEFT_AMID, LEFT_BEFORE], [60, 30, 10])[0]
            asked = question(
                number + turn,
                max_tokens=LONG if leaves else SHORT,
                prompt_passages=2 if number % 10 == 0 else 0,  # some prompts are read in several pieces
                k=4,
                history=history[-2:],
            )
            outcome, text, wait = await attempt(client, asked, leaves)
            while outcome == "429":
                outcomes["429"] += 1
                await asyncio.sleep(wait)
                outcome, text, wait = await attempt(client, asked, leaves)
            outcomes[outcome] += 1
            if text:
                history += [asked["messages"][-1], {"role": "assistant", "content": text}]

    connections = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=served.url, timeout=600, limits=connections) as client:
        await asyncio.gather(*(converse(client, number) for number in range(clients)))
    return outcomes


async def leave_together(served: Served) -> None:
    """As many clients as are answered at once leave amid long answers."""
    async with httpx.AsyncClient(base_url=served.url, timeout=600) as client:
        asked = [question(number, max_tokens=LONG, prompt_passages=0, k=4) for number in range(CLIENTS)]
        await asyncio.gather(*(attempt(client, each, LEFT_AMID) for each in asked))


def run_throughput(max_tokens: int) -> None:
    print(f"{CLIENTS} clients, answers of at most {max_tokens} tokens, {ROUNDS} rounds in turn.\n")
    print("| passages in the prompt | | tokens/s | ratio | first token p50, s | p95, s |\n|---|---|---|---|---|---|")
    with serve() as served:
        for prompt_passages in (10, 3):
            print("\n".join(asyncio.run(throughput(served, prompt_passages, max_tokens))), flush=True)


def run_load(clients: int, turns: int) -> list[str]:
    """Prints what was seen; returns the targets that were missed.

    Memory is compared between two rounds of the same requests: of new text, the tokenizers keep words up to a bound.
    """
    with serve() as served:
        asyncio.run(load(served, clients, turns))
        time.sleep(1)
        before, cancelled = served.process.memory_info().rss, served.metric(CANCELLED)
        start = time.perf_counter()
        outcomes = asyncio.run(load(served, clients, turns))
        seconds = time.perf_counter() - start
        print(f"\n{clients} clients of {turns} turns in {seconds:.0f} s: {dict(sorted(outcomes.items()))}", flush=True)
        time.sleep(1)
        alive = [served.alive()]
        after, cancelled = served.process.memory_info().rss, served.metric(CANCELLED) - cancelled
        for _ in range(3):
            asyncio.run(leave_together(served))
            time.sleep(1)
            alive.append(served.alive())
    drift = (after - before) / before * 1000 / (clients * turns)
    left = outcomes[LEFT_AMID] + outcomes[LEFT_BEFORE]
    print(f"of the answers to the {left} clients that left, {cancelled:.0f} were stopped")
    print(f"decoded a second after the last client, then after {CLIENTS} that left together: {alive}")
    print(f"resident memory: {before / 1e6:.0f} MB, then {after / 1e6:.0f} MB; {drift:+.1%} per 1,000 requests")
    told = outcomes.keys() - {"200", "429", "503", LEFT_AMID, LEFT_BEFORE}
    targets = {
        f"nothing but 200, 429 and 503, and not {sorted(told)}": not told,
        "whole answers among them": outcomes["200"] > 0,
        "nothing decoded a second after its client has gone": not any(alive),
        f"memory drift below {MAX_DRIFT:.0%} per 1,000 requests": drift < MAX_DRIFT,
    }
    return [target for target, reached in targets.items() if not reached]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__.partition("\n")[0])
    parser.add_argument("only", nargs="?", choices=["throughput", "load"])
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    if options.only != "load":
        run_throughput(options.max_tokens)
    if options.only != "throughput" and (missed := run_load(options.clients, options.turns)):
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
