"""Latent decoding on a GPU: every tile of Φ is read once, as keys and as values of all heads.

Φ is split over M where passages end; a second kernel merges the splits by their log-sum-exps. Inference only. With
TRITON_INTERPRET=1 set before this module is imported, the same code runs on a CPU, slowly.
"""

# ruff: noqa: N803 -- Triton's convention is compile-time arguments in capitals
# mypy: disable-error-code="import-untyped,import-not-found,untyped-decorator,no-untyped-def"

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from ragx_kernels.cross_attention.lse import Offsets
from ragx_kernels.cross_attention.splits import split

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
SPLITS_PER_PROCESSOR = 2


def attend_to_phi(
    query: Tensor,
    phi: Tensor,
    *,
    scale: float,
    phi_scale: Tensor | None = None,
    mask: Tensor | None = None,
    offsets: Offsets | None = None,
    splits: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """softmax(query · Φᵀ · scale) · Φ.

    Args:
        query: (B, X, E), queries of all heads with W_k absorbed.
        phi: (B, M, E) in the type of `query`, or int8 with `phi_scale`.
        scale: factor of the scores.
        phi_scale: (B, M).
        mask: (B, M), true for tokens that may be attended to.
        offsets: passage offsets, to return log-sum-exps; None: one passage.
        splits: target number of splits per question; None: enough to fill the GPU.

    Returns:
        output (B, X, E) in the type of `query`, zeros if all tokens are masked, and with `offsets` log-sum-exps
        (B, X, K) in float32, else None.

    Raises:
        ValueError: E is below 16, or the GPU's shared memory is too small for rows of E elements.
    """
    batch, rows, width = query.shape
    query, phi = query.contiguous(), (phi if phi_scale is not None else phi.to(query.dtype)).contiguous()
    phi_scale = None if phi_scale is None else phi_scale.contiguous()
    mask = None if mask is None else mask.contiguous()
    blocks = block_sizes(rows, width, query.element_size(), _shared_memory(query.device))
    if blocks is None:
        raise ValueError(f"rows of {width} elements do not fit into the shared memory of {query.device}")
    row_blocks = triton.cdiv(rows, blocks["BLOCK_ROWS"])
    if splits is None:
        splits = max(1, _processors(query.device) * SPLITS_PER_PROCESSOR // (batch * row_blocks))
    passages = _covering(offsets, batch, phi.shape[1])
    plan = split(passages, splits, keep_passages=offsets is not None, device=query.device)
    split_count, run_count = plan.first_run.shape[1] - 1, plan.runs.shape[1]

    partial = _empty((batch, split_count, rows, width), query.device)
    split_lse = _empty((batch, split_count, rows), query.device)
    run_lse = _empty((batch, run_count, rows) if offsets else (0,), query.device)
    output = torch.empty_like(query)
    # the interpreter cannot multiply bfloat16; float32 holds the same values, and tensor cores sum in float32 too
    dot = tl.float32 if triton.knobs.runtime.interpret else getattr(tl, str(query.dtype).removeprefix("torch."))
    with _on(query.device):
        _split_kernel[(split_count, row_blocks, batch)](
            query,
            phi,
            phi_scale,
            mask,
            plan.runs,
            plan.first_run,
            partial,
            split_lse,
            run_lse,
            rows,
            width,
            run_count,
            split_count,
            scale * LOG2_E.value,
            phi.stride(0),
            phi.stride(1),
            phi_scale.stride(0) if phi_scale is not None else 0,
            mask.stride(0) if mask is not None else 0,
            HAS_SCALE=phi_scale is not None,
            HAS_MASK=mask is not None,
            WANTS_LSE=offsets is not None,
            **blocks,
            DOT=dot,
            PRECISION="ieee",  # float32 stays float32
            num_warps=8,
            num_stages=2,
        )
        _merge_kernel[(rows, batch)](
            partial, split_lse, output, rows, width, split_count, BLOCK=triton.next_power_of_2(width)
        )
    if offsets is None:
        return output, None
    return output, _lse_of_passages(run_lse, plan.passage, len(passages[0]) - 1)[:, :, : len(offsets[0]) - 1]


def block_sizes(rows: int, width: int, itemsize: int, shared_memory: int) -> dict[str, int] | None:
    """The kernel's block sizes for rows of E elements, or None if no tile fits into `shared_memory` bytes.

    E is handled as WIDE + REST columns because the sides of a block must be powers of two, at least 16.
    """
    if width < 16:
        return None
    wide = 1 << (width.bit_length() - 1)  # the largest power of two up to E
    rest = max(16, triton.next_power_of_2(width - wide)) if width > wide else 0
    for block_rows in (32, 16) if rows > 16 else (16,):  # 16: the minimum for tensor cores
        for tokens in (64, 32, 16):
            elements = (block_rows + tokens) * (wide + rest)  # queries and a tile of Φ
            if tokens * (wide + rest) <= 32 * 1024 and elements * itemsize + 2048 <= shared_memory:
                return {"BLOCK_ROWS": block_rows, "BLOCK_M": tokens, "WIDE": wide, "REST": rest}
    return None


def fits(query: Tensor) -> bool:
    """Whether `attend_to_phi` can run for queries (B, X, E) on their device."""
    return block_sizes(query.shape[1], query.shape[2], query.element_size(), _shared_memory(query.device)) is not None


def _covering(offsets: Offsets | None, batch: int, tokens: int) -> Offsets:
    """Offsets that cover all M tokens: those after the last offset become a passage whose log-sum-exp is dropped."""
    if offsets is None:
        return ((0, tokens),) * batch
    return tuple((*starts, tokens) for starts in offsets) if any(row[-1] < tokens for row in offsets) else offsets


def _lse_of_passages(run_lse: Tensor, passage: Tensor, count: int) -> Tensor:
    """(B, R, X) -> (B, X, K): a long passage has several runs."""
    index = passage[:, :, None].expand_as(run_lse)  # (B, R, X)
    shape = (run_lse.shape[0], count + 1, run_lse.shape[2])  # the last one collects the padding
    top = run_lse.new_full(shape, -torch.inf).scatter_reduce(1, index, run_lse, "amax")  # (B, K + 1, X)
    top = top.masked_fill(top == -torch.inf, 0.0)
    total = run_lse.new_zeros(shape).scatter_add(1, index, (run_lse - top.gather(1, index)).exp())
    return (total.log() + top)[:, :count].transpose(1, 2)


def _empty(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=device)


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Make `device` the current GPU, on which Triton launches."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _shared_memory(device: torch.device) -> int:
    if device.type != "cuda":
        return 160 * 1024  # the interpreter has no limit: assume a GPU's
    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "shared_memory_per_block_optin", properties.shared_memory_per_block))


@triton.jit
def _split_kernel(
    query,
    phi,
    phi_scale,
    mask,
    runs,
    first_run,
    partial,
    split_lse,
    run_lse,
    rows,
    width,
    run_count,
    split_count,
    scale,  # times log2(e): the kernel uses powers of two
    phi_of_question,
    phi_of_token,
    scale_of_question,
    mask_of_question,
    HAS_SCALE: tl.constexpr,
    HAS_MASK: tl.constexpr,
    WANTS_LSE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    WIDE: tl.constexpr,
    REST: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One split of one question for a block of rows."""
    split_id = tl.program_id(0)
    b = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)  # (X)
    is_row = row < rows
    wide = tl.arange(0, WIDE)
    query_rows = query + (b * rows + row[:, None]) * width
    q_wide = tl.load(query_rows + wide[None, :], mask=is_row[:, None], other=0.0).to(DOT)  # (X, WIDE)
    sums_wide = tl.zeros((BLOCK_ROWS, WIDE), dtype=tl.float32)
    if REST > 0:
        rest = WIDE + tl.arange(0, REST)
        is_rest = rest < width
        q_rest = tl.load(query_rows + rest[None, :], mask=is_row[:, None] & is_rest[None, :], other=0.0).to(DOT)
        sums_rest = tl.zeros((BLOCK_ROWS, REST), dtype=tl.float32)
    top = tl.full((BLOCK_ROWS,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_ROWS,), dtype=tl.float32)

    first = tl.load(first_run + b * (split_count + 1) + split_id)
    last = tl.load(first_run + b * (split_count + 1) + split_id + 1)
    for run in range(first, last):
        start = tl.load(runs + (b * run_count + run) * 2)
        stop = tl.load(runs + (b * run_count + run) * 2 + 1)
        run_top = tl.full((BLOCK_ROWS,), float("-inf"), dtype=tl.float32)
        run_total = tl.zeros((BLOCK_ROWS,), dtype=tl.float32)
        for tile in range(start, stop, BLOCK_M):
            token = tile + tl.arange(0, BLOCK_M)  # (M)
            is_token = token < stop
            phi_rows = phi + b * phi_of_question + token[:, None].to(tl.int64) * phi_of_token
            phi_wide = tl.load(phi_rows + wide[None, :], mask=is_token[:, None], other=0)  # (M, WIDE)
            phi_wide = phi_wide.to(DOT)  # exact for int8
            scores = tl.dot(q_wide, tl.trans(phi_wide), input_precision=PRECISION)  # (X, M)
            if REST > 0:
                phi_rest = tl.load(phi_rows + rest[None, :], mask=is_token[:, None] & is_rest[None, :], other=0)
                phi_rest = phi_rest.to(DOT)
                scores += tl.dot(q_rest, tl.trans(phi_rest), input_precision=PRECISION)
            scores *= scale
            if HAS_SCALE:  # scale a row's score and weight instead of its E elements
                of_row = tl.load(phi_scale + b * scale_of_question + token, mask=is_token, other=0.0)
                scores *= of_row[None, :]
            allowed = is_token
            if HAS_MASK:
                allowed &= tl.load(mask + b * mask_of_question + token, mask=is_token, other=0) != 0
            scores = tl.where(allowed[None, :], scores, float("-inf"))

            tile_top = tl.max(scores, axis=1)
            new_top = tl.maximum(top, tile_top)
            shift = tl.where(new_top == float("-inf"), 0.0, new_top)  # nothing unmasked so far
            weights = tl.exp2(scores - shift[:, None])  # (X, M)
            keep = tl.exp2(top - shift)
            total = total * keep + tl.sum(weights, axis=1)
            top = new_top
            if WANTS_LSE:
                new_run_top = tl.maximum(run_top, tile_top)
                run_shift = tl.where(new_run_top == float("-inf"), 0.0, new_run_top)
                run_weights = tl.exp2(scores - run_shift[:, None])
                run_total = run_total * tl.exp2(run_top - run_shift) + tl.sum(run_weights, axis=1)
                run_top = new_run_top
            if HAS_SCALE:
                weights *= of_row[None, :]
            weights = weights.to(query.dtype.element_ty).to(DOT)
            sums_wide = sums_wide * keep[:, None] + tl.dot(weights, phi_wide, input_precision=PRECISION)
            if REST > 0:
                sums_rest = sums_rest * keep[:, None] + tl.dot(weights, phi_rest, input_precision=PRECISION)
        if WANTS_LSE:
            run_sum = (run_top + tl.log2(run_total)) * LN_2
            tl.store(run_lse + (b * run_count + run) * rows + row, run_sum, mask=is_row)

    over = tl.where(total > 0, total, 1.0)  # an empty split: zeros, weight exp(-inf)
    out_rows = partial + ((b * split_count + split_id) * rows + row[:, None]) * width
    tl.store(out_rows + wide[None, :], sums_wide / over[:, None], mask=is_row[:, None])
    if REST > 0:
        tl.store(out_rows + rest[None, :], sums_rest / over[:, None], mask=is_row[:, None] & is_rest[None, :])
    tl.store(split_lse + (b * split_count + split_id) * rows + row, (top + tl.log2(total)) * LN_2, mask=is_row)


@triton.jit
def _merge_kernel(partial, split_lse, output, rows, width, split_count, BLOCK: tl.constexpr):
    """The mean of a row's splits, weighted by the exponentials of their log-sum-exps."""
    row = tl.program_id(0)
    b = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, BLOCK)
    is_column = column < width
    top = float("-inf")
    total = 0.0
    sums = tl.zeros((BLOCK,), dtype=tl.float32)
    for s in range(split_count):
        at = (b * split_count + s) * rows + row
        lse = tl.load(split_lse + at)
        new_top = tl.maximum(top, lse)
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
        keep = tl.exp2((top - shift) * LOG2_E)
        weight = tl.exp2((lse - shift) * LOG2_E)
        part = tl.load(partial + at * width + column, mask=is_column, other=0.0)
        sums = sums * keep + part * weight
        total = total * keep + weight
        top = new_top
    sums = sums / tl.where(total > 0, total, 1.0)
    tl.store(output + (b * rows + row) * width + column, sums.to(output.dtype.element_ty), mask=is_column)
