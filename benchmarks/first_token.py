"""What a cold `ragx ask` costs: seconds to its first token, against a bare transformers script, and CPU and memory.

The bare script imports torch and transformers, loads the same decoder in the same number format and greedily generates
one token from a prompt of the same length. The processes take turns; medians are compared.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from benchmarks import sample
from benchmarks.tables import markdown
from ragx.config import RERANK, ReaderOptions
from ragx.models import resolve
from ragx.rag import RAG
from ragx.reader.prompt import build_prompt
from ragx.retrieval import open_index
from ragx.retrieval.rerankers import open_reranker
from ragx.util.device import default_device, default_dtype
from ragx.util.tokenization import load_tokenizer

ROUNDS = 5
MB = 1e6
DECODER = "smollm2-135m-instruct"
"""The default reader's."""
BARE = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, dtype, length = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
ids = torch.tensor([(tokenizer("snow reflects light ").input_ids * length)[:length]])
out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False)
print(tokenizer.decode(out[0, -1:]), flush=True)
"""
READY = """
import sys, time
from ragx.rag import RAG
RAG.from_index(sys.argv[1])
print(time.process_time())
"""
"""Prints the CPU seconds after which a question could be asked."""
COSTS = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)  # Linux reports KiB
"""
"""Prints exit status, CPU seconds and peak memory of a command, from a small process: the peak counts its parent's."""


def run() -> str:
    """A Markdown table."""
    index = open_index(sample.INDEX)
    reranker = open_reranker(RERANK, embedder=index.retriever.index.manifest.embedder.name)
    hits = RAG(index, {}, reranker=reranker).retrieve(sample.QUESTION, k=ReaderOptions().prompt_passages)
    folder = resolve(DECODER)
    prompt = build_prompt(load_tokenizer(folder), sample.QUESTION, [hit.passage for hit in hits], max_tokens=10**6)
    dtype = str(default_dtype(default_device())).removeprefix("torch.")
    ask = [sys.executable, "-m", "ragx", "ask", sample.QUESTION, "--index", str(sample.INDEX)]
    commands = {
        "bare transformers script": [sys.executable, "-c", BARE, str(folder), dtype, str(len(prompt.ids))],
        "ragx ask": ask,
        "ragx ask --method bm25": [*ask, "--method", "bm25"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            seconds[name].append(_to_first_byte(command))
    baseline = median(seconds["bare transformers script"])
    rows = [
        (name, f"{median(times):.2f}", f"{min(times):.2f}-{max(times):.2f}", f"{median(times) / baseline:.2f}")
        for name, times in seconds.items()
    ]
    head = f"Prompt of {len(prompt.ids)} tokens, {dtype}, {ROUNDS} alternating rounds."
    return f"{head}\n\n{markdown(('process', 'median s', 'range', 'ratio'), rows)}\n\n{_costs(ask)}"


def _costs(ask: list[str]) -> str:
    """A Markdown table of CPU seconds and peak memory, medians of cold processes."""
    ready, whole, peak = [], [], []
    for _ in range(ROUNDS):
        out = subprocess.run([sys.executable, "-c", READY, str(sample.INDEX)], capture_output=True, check=True).stdout
        ready.append(float(out))
        out = subprocess.run([sys.executable, "-c", COSTS, *ask], capture_output=True, check=True).stdout
        status, seconds, memory = map(float, out.split())
        if status:
            raise RuntimeError(f"ragx ask ended with {status:.0f}")
        whole.append(seconds)
        peak.append(memory)
    rows = [
        ("CPU s until a question can be asked", f"{median(ready):.1f}", "2"),
        ("CPU s in all", f"{median(whole):.1f}", ""),
        ("peak resident memory, MB", f"{median(peak) / MB:.0f}", "800"),
    ]
    return markdown(("ragx ask", "median", "target"), rows)


def _to_first_byte(command: list[str]) -> float:
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        elapsed = time.perf_counter() - start
        process.kill()
    if not first:
        raise RuntimeError(f"{command[:4]} printed nothing")
    return elapsed
