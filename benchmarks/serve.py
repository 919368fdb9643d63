"""`ragx serve` under load: `python -m benchmarks.serve [throughput | load]`, by default both.

throughput: 8 concurrent clients against the same questions asked sequentially, in alternating rounds.
load: 50 clients with 10 turns each; 30% leave during an answer and 10% before it begins. Reports response statuses,
answers still active a second after the last client has left, and memory growth. Exits with 1 if a target is missed.
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
"""Tokens of an answer that its client reads, and of one whose client leaves, which only the server can end early."""
LEFT_DURING, LEFT_BEFORE = "left during the answer", "left before the answer"
PATIENCE = 0.2
"""Seconds after which a client leaves before its answer."""
CANCELLED = 'ragx_answers_total{finish="cancelled"}'
MAX_DRIFT = 0.02
"""Growth of the server's memory per 1,000 requests."""


@dataclass
class Served:
    """A server in a separate process."""

    url: str
    process: psutil.Process

    def metric(self, name: str) -> float:
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def active(self) -> float:
        """Questions being answered or waiting."""
        return self.metric("ragx_answers_running") + self.metric("ragx_answers_waiting")


@contextmanager
def serve(*options: str) -> Iterator[Served]:
    """Run a server; its messages go to stderr."""
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
    """A request. The high temperature makes answers reach their limit, as larger models' answers do."""
    message = {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}
    return {
        "model": DEFAULT_MODEL,
        "messages": [*history, message],
        "max_tokens": max_tokens,
        "temperature": 1.5,
        "seed": number,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ragx": {"prompt_passages": prompt_passages, "k": k},
    }


async def ask(client: httpx.AsyncClient, request: dict[str, Any]) -> tuple[float, int]:
    """Seconds to the first token, and the number of tokens."""
    start = time.perf_counter()
    first, tokens = 0.0, 0
    async with client.stream("POST", CHAT, json=request) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter() - start
                if usage := json.loads(line[6:]).get("usage"):
                    tokens = usage["completion_tokens"]
    return first, tokens


async def throughput(served: Served, prompt_passages: int, max_tokens: int) -> list[str]:
    """Rows of a Markdown table."""
    requests = [question(n, max_tokens=max_tokens, prompt_passages=prompt_passages) for n in range(CLIENTS)]
    seconds = {"sequential": 0.0, f"{CLIENTS} concurrent": 0.0}
    answers: dict[str, list[tuple[float, int]]] = {how: [] for how in seconds}
    async with httpx.AsyncClient(base_url=served.url, timeout=600) as client:
        await ask(client, {**requests[0], "max_tokens": 1})  # warm-up
        for _ in range(ROUNDS):
            for how in seconds:
                start = time.perf_counter()
                if how == "sequential":
                    answers[how] += [await ask(client, request) for request in requests]
                else:
                    answers[how] += await asyncio.gather(*(ask(client, request) for request in requests))
                seconds[how] += time.perf_counter() - start
    rows, alone = [], 0.0
    for how, spent in seconds.items():
        speed = sum(tokens for _, tokens in answers[how]) / spent
        alone = alone or speed
        cuts = quantiles([first for first, _ in answers[how]], n=20, method="inclusive")
        rows.append(
            f"| {prompt_passages} | {how} | {speed:.1f} | {speed / alone:.2f} | {cuts[9]:.2f} | {cuts[18]:.2f} |"
        )
    return rows


async def attempt(client: httpx.AsyncClient, request: dict[str, Any], leaves: str) -> tuple[str, str, float]:
    """The outcome of a request, the text received, and the seconds after which to retry.

    `leaves`: `LEFT_DURING` or `LEFT_BEFORE`, or empty if the client stays.
    """
    text = ""
    try:
        async with (
            asyncio.timeout(PATIENCE if leaves == LEFT_BEFORE else None),
            client.stream("POST", CHAT, json=request) as response,
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
    """Count outcomes: statuses, or how clients left. All runs send the same requests."""
    outcomes: Counter[str] = Counter()

    async def converse(client: httpx.AsyncClient, number: int) -> None:
        chance = random.Random(number)
        history: list[dict[str, str]] = []
        for turn in range(turns):
            leaves = chance.choices(["", LEFT_DURING, LEFT_BEFORE], [60, 30, 10])[0]
            request = question(
                number + turn,
                max_tokens=LONG if leaves else SHORT,
                prompt_passages=2 if number % 10 == 0 else 0,  # some prompts are prefilled in pieces
                k=4,
                history=history[-2:],
            )
            outcome, text, wait = await attempt(client, request, leaves)
            while outcome == "429":
                outcomes["429"] += 1
                await asyncio.sleep(wait)
                outcome, text, wait = await attempt(client, request, leaves)
            outcomes[outcome] += 1
            if text:
                history += [request["messages"][-1], {"role": "assistant", "content": text}]

    connections = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=served.url, timeout=600, limits=connections) as client:
        await asyncio.gather(*(converse(client, number) for number in range(clients)))
    return outcomes


async def leave_together(served: Served) -> None:
    """A full batch of clients leaves during long answers."""
    async with httpx.AsyncClient(base_url=served.url, timeout=600) as client:
        requests = [question(number, max_tokens=LONG, prompt_passages=0, k=4) for number in range(CLIENTS)]
        await asyncio.gather(*(attempt(client, each, LEFT_DURING) for each in requests))


def run_throughput(max_tokens: int) -> None:
    print(f"{CLIENTS} clients, answers of at most {max_tokens} tokens, {ROUNDS} alternating rounds.\n")
    print("| passages in the prompt | | tokens/s | ratio | first token p50, s | p95, s |\n|---|---|---|---|---|---|")
    with serve() as served:
        for prompt_passages in (10, 3):
            print("\n".join(asyncio.run(throughput(served, prompt_passages, max_tokens))), flush=True)


def run_load(clients: int, turns: int) -> list[str]:
    """Print the results and return the missed targets.

    Memory is compared between two rounds of the same requests, because tokenizers cache new words up to a limit.
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
        active = [served.active()]
        after, cancelled = served.process.memory_info().rss, served.metric(CANCELLED) - cancelled
        for _ in range(3):
            asyncio.run(leave_together(served))
            time.sleep(1)
            active.append(served.active())
    drift = (after - before) / before * 1000 / (clients * turns)
    left = outcomes[LEFT_DURING] + outcomes[LEFT_BEFORE]
    print(f"{left} clients left; {cancelled:.0f} answers were cancelled")
    print(f"active a second after the last client, then after {CLIENTS} left together: {active}")
    print(f"resident memory: {before / 1e6:.0f} MB, then {after / 1e6:.0f} MB; {drift:+.1%} per 1,000 requests")
    unexpected = outcomes.keys() - {"200", "429", "503", LEFT_DURING, LEFT_BEFORE}
    targets = {
        f"nothing but 200, 429 and 503, and not {sorted(unexpected)}": not unexpected,
        "some whole answers": outcomes["200"] > 0,
        "nothing active a second after its client has left": not any(active),
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
