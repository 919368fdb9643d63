"""What only a GPU shows to work: `python -m benchmarks.gpu.checks WORK OUT SECONDS`; without one, on the CPU."""

# ruff: noqa: E402 -- triton reads TRITON_INTERPRET when transformers imports it

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from ragx.util.device import default_device

DEVICE = default_device()
if DEVICE == "cpu":  # read when triton is imported
    os.environ["TRITON_INTERPRET"] = "1"

from ragx_kernels.cross_attention import cross_attention, naive
from ragx_train.data.example import Batch, Example, collate
from ragx_train.engine.model import reader_to_train, trained
from ragx_train.engine.sharding import shard, whole
from ragx_train.engine.step import Objective
from ragx_train.recipes.qa import answer_loss
from ragx_train.recipes.reader import ReaderSettings
from torch import Tensor

from benchmarks.gpu.readers import fresh_reader, model_settings, packed_settings
from benchmarks.gpu.unpack import ROOT
from ragx import cepe

TESTS = ("test_triton_latent.py", "test_strategies.py", "test_blocks.py")


class Skipped(Exception):
    """A package or a GPU is missing."""


def main(work: Path, seconds: float) -> None:
    began = time.monotonic()
    settings = packed_settings(work)
    checks: dict[str, Callable[[], str]] = {
        "Triton: latent attention in bf16": partial(triton_forward, torch.bfloat16),
        "Triton: latent attention in fp32": partial(triton_forward, torch.float32),
        "gradients of cross-attention": gradients,
        "padded passages": partial(padded_passages, settings),
        "latent decoding": partial(latent_decoding, settings),
        "losses and gradients as on the CPU": partial(training_losses, settings, sharded=False),
        "the same, sharded (FSDP)": partial(training_losses, settings, sharded=True),
        "decoder in 8 bits": partial(few_bits, settings, 8),
        "decoder in 4 bits": partial(few_bits, settings, 4),
        "FAISS on the GPU": faiss_gpu,
        "pytest": lambda: kernel_tests(seconds - (time.monotonic() - began)),
    }
    print("| check | result | s |\n|---|---|---|", flush=True)
    failed = 0
    for name, check in checks.items():
        start = time.monotonic()
        try:
            result = check()
        except Skipped as reason:
            result = f"skipped: {reason}"
        except Exception as error:
            traceback.print_exc()
            failed += 1
            result = f"**failed**: {type(error).__name__} {' '.join(str(error).split())[:200]}"
        print(f"| {name} | {result} | {time.monotonic() - start:.1f} |", flush=True)
    sys.exit(failed > 0)


def triton_forward(dtype: torch.dtype) -> str:
    if find_spec("triton") is None:
        raise Skipped("no triton")
    from ragx_kernels.cross_attention.triton import attend_to_phi

    query, phi = (
        torch.randn(2, 9, 576, device=DEVICE, dtype=dtype),
        torch.randn(2, 333, 576, device=DEVICE, dtype=dtype),
    )
    output, lse = attend_to_phi(query, phi, scale=576**-0.5, offsets=((0, 100, 333), (0, 200, 300)))
    scores = query.double() @ phi.double().transpose(1, 2) * 576**-0.5
    assert lse is not None
    sums = [scores[0, :, :100].logsumexp(-1), scores[0, :, 100:].logsumexp(-1), scores[1, :, 200:300].logsumexp(-1)]
    close = torch.stack([lse[0, :, 0], lse[0, :, 1], lse[1, :, 1]])
    return _below(
        2e-2 if dtype == torch.bfloat16 else 1e-4,
        (output, scores.softmax(-1) @ phi.double()),
        (close, torch.stack(sums)),
    )


def gradients() -> str:
    shapes = {"query": (2, 6, 40, 64), "phi": (2, 300, 128), "key": (192, 128), "value": (192, 128)}
    mask = torch.arange(300, device=DEVICE) < torch.tensor([[300], [170]], device=DEVICE)
    given = {name: torch.randn(shape, device=DEVICE) / shape[-1] ** 0.5 for name, shape in shapes.items()}
    upstream = torch.randn(shapes["query"], device=DEVICE)

    def derive(attend: Callable[..., tuple[Tensor, Tensor | None]], dtype: torch.dtype, **options: str) -> list[Tensor]:
        inputs = [each.to(dtype).requires_grad_() for each in given.values()]
        output, _ = attend(*inputs, mask=mask, **options)
        return [output, *torch.autograd.grad(output, inputs, upstream.to(dtype))]

    exact = derive(naive.cross_attention, torch.float64)
    results = derive(cross_attention, torch.bfloat16, strategy="project")
    return _below(3e-2, *zip(results, exact, strict=True))


def padded_passages(settings: ReaderSettings) -> str:
    model = fresh_reader(settings, torch.float32)
    lengths = [5, 64, 130, 64, 1]
    positions = torch.cat([torch.arange(length) for length in lengths])[None].to(DEVICE)
    states = torch.randn(1, sum(lengths), model.encoder_width, device=DEVICE)
    with torch.inference_mode():
        return _below(1e-4, tuple(model.encoder(states, positions, lengths, step) for step in (64, 1)))


def latent_decoding(settings: ReaderSettings) -> str:
    model = fresh_reader(settings, torch.bfloat16)
    passages = torch.randint(50, model.config.vocab_size // 2, (30, 20)).tolist()
    logits = []
    for strategy in ("project", "latent", "cached"):
        model.attention_strategy = strategy
        with torch.inference_mode():
            context = model.encode_passages(passages)
            prompt = torch.tensor([passages[0]], device=DEVICE)
            past = model(prompt, context=context, use_cache=True).past_key_values
            logits.append(model(prompt[:, :1], context=context, past_key_values=past, use_cache=True).logits)
    return _below(5e-2, (logits[1], logits[0].double()), (logits[2], logits[0].double()))


def training_losses(settings: ReaderSettings, *, sharded: bool) -> str:
    """Two questions about shared passages and a text, in fp32: on the device, and on the CPU."""
    loop = settings.loop.model_copy(update={"precision": "fp32", "compile": False})
    batch = _batch(reader_to_train(model_settings(settings), loop)[0].config.vocab_size)
    results: list[tuple[Tensor, Tensor]] = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        model, _ = reader_to_train(model_settings(settings), loop)
        objective = Objective(model, answer_loss(0.3), "fp32").to(device)
        if sharded and device == DEVICE and len(results) == 1:
            _open_group()
            shard(objective, model)
        losses = objective(batch.to(torch.device(device)))
        losses["loss"].backward()
        norms = [whole(weight.grad).norm().cpu() for weight in trained(model).values() if weight.grad is not None]
        results.append((losses["loss"].detach().cpu(), torch.stack(norms)))
    return _below(1e-3, *zip(results[1], (each.double() for each in results[0]), strict=True))


def few_bits(settings: ReaderSettings, bits: int) -> str:
    if find_spec("bitsandbytes") is None:
        raise Skipped("no bitsandbytes")
    ids = torch.randint(50, 300, (1, 64), device=DEVICE)
    with torch.inference_mode():
        exact, rounded = (
            cepe.load(settings.model.decoder, dtype="bfloat16", device=DEVICE, bits=each)(ids).logits.log_softmax(-1)
            for each in (None, bits)
        )
        divergence = float((exact.exp() * (exact - rounded)).sum(-1).mean())
    assert divergence < 1
    return f"KL {divergence:.3f} nats on random tokens"


def faiss_gpu() -> str:
    if find_spec("faiss") is None:
        raise Skipped("no faiss")
    import faiss

    if not faiss.get_num_gpus():
        raise Skipped("faiss without GPUs")
    vectors = torch.randn(5000, 64).numpy()
    index = faiss.IndexFlatIP(64)
    index.add(vectors)
    on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    assert (on_gpu.search(vectors[:20], 1)[1] == index.search(vectors[:20], 1)[1]).all()
    return "same hits"


def kernel_tests(seconds: float) -> str:
    """pytest on the kernels; without the project's settings, which need plugins."""
    if DEVICE == "cpu" or find_spec("pytest") is None or find_spec("hypothesis") is None:
        raise Skipped("needs a GPU, pytest and hypothesis")
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", os.devnull]
    files = [f"tests/kernels/{name}" for name in TESTS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--rootdir={ROOT}", *files],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=max(1.0, seconds),
    )
    print(done.stdout, file=sys.stderr)
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, last
    return last


def _below(limit: float, *pairs: tuple[Tensor, Tensor]) -> str:
    """The largest relative error of results against exact values, which must be below `limit`."""
    errors = [float((a.detach().double() - b.detach().double()).norm() / b.detach().double().norm()) for a, b in pairs]
    assert all(error < limit for error in errors), f"relative errors {errors}, limit {limit}"  # false for NaN
    return f"relative error {max(errors):.1e}"


def _batch(vocabulary: int) -> Batch:
    ids = torch.randint(50, vocabulary // 2, (5, 30)).tolist()
    asked = Example(
        ids[0],
        [-100] * 20 + ids[1][:10],
        ids[2:],
        "questions",
        segments=[0] * 20 + [1] * 5 + [2] * 5,
        gold=[[1], [0, 2]],
    )
    return collate([asked, Example(ids[1][:24], ids[1][1:25], ids[3:4], "text")])


def _open_group() -> None:
    backend = "nccl" if DEVICE == "cuda" else "gloo"
    store = Path(tempfile.mkdtemp()) / "store"
    torch.distributed.init_process_group(backend, init_method=f"file://{store}", world_size=1, rank=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[3]))
