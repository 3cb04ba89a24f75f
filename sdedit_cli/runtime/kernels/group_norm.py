# pyright: basic, reportMissingImports=false
# Triton reads the annotations of its functions, so they are not postponed here.
"""GroupNorm with what is added before it and SiLU behind it, for pictures with their channels last.

A group of one picture is a tile of rows (places) by channels. Small ones stay in registers from first to last; of
large ones a first kernel leaves mean and squared deviations a chunk of rows, which the second joins (Chan et al. 1979)
before it norms its chunk. Everything is summed in float32. What varies from layer to layer is no constant of the
kernels, so that few have to be compiled.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...nn import ops as plain
from .launch import start, takes_pictures

_LARGEST_TILE = 16384
_TILE = 4096
_MOST_CHUNKS = 64
_UNSPECIAL = ["rows", "width", "per_chunk", "chunks", "c_width", "bc_width", "silu"]


@triton.jit
def _shifted(x, c_ptr, bc_ptr, batch, channel, channels, column, c_width, bc_width):
    # A width is 0 where there is no such shift.
    x += tl.load(c_ptr + channel, mask=column < c_width, other=0.0).to(tl.float32)
    x += tl.load(bc_ptr + batch * channels + channel, mask=column < bc_width, other=0.0).to(tl.float32)
    return x


@triton.jit
def _finished(d, scale, w_ptr, b_ptr, channel, valid, silu):
    y = d * scale * tl.load(w_ptr + channel, mask=valid, other=0.0).to(tl.float32)
    y += tl.load(b_ptr + channel, mask=valid, other=0.0).to(tl.float32)
    return tl.where(silu != 0, y * tl.sigmoid(y), y)


@triton.jit(do_not_specialize=_UNSPECIAL)
def _small(
    x_ptr, y_ptr, w_ptr, b_ptr, c_ptr, bc_ptr, rows, channels, width, eps, c_width, bc_width, silu,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)
    row = tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    channel = group * width + column
    valid = column < width
    inside = (row < rows) & valid
    place = (batch * rows + row) * channels + channel
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    x = _shifted(x, c_ptr, bc_ptr, batch, channel, channels, column, c_width, bc_width)
    count = (rows * width).to(tl.float32)
    mean = tl.sum(tl.sum(tl.where(inside, x, 0.0), axis=1), axis=0) / count
    d = tl.where(inside, x - mean, 0.0)
    variance = tl.sum(tl.sum(d * d, axis=1), axis=0) / count
    y = _finished(d, tl.rsqrt(variance + eps), w_ptr, b_ptr, channel, valid, silu)
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_UNSPECIAL)
def _sums(
    x_ptr, sums_ptr, c_ptr, bc_ptr, rows, channels, width, per_chunk, chunks, c_width, bc_width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0)
    group = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    column = tl.arange(0, WIDTH)[None, :]
    channel = group * width + column
    valid = column < width
    count = 0.0
    mean = 0.0
    squares = 0.0
    for first in range(0, per_chunk, ROWS):
        row = chunk * per_chunk + first + tl.arange(0, ROWS)[:, None]
        inside = (row < rows) & valid
        x = tl.load(x_ptr + (batch * rows + row) * channels + channel, mask=inside, other=0.0).to(tl.float32)
        x = _shifted(x, c_ptr, bc_ptr, batch, channel, channels, column, c_width, bc_width)
        left = tl.maximum(tl.minimum(rows - chunk * per_chunk - first, ROWS), 0)
        here = (left * width).to(tl.float32)
        mean_here = tl.sum(tl.sum(tl.where(inside, x, 0.0), axis=1), axis=0) / tl.maximum(here, 1.0)
        d = tl.where(inside, x - mean_here, 0.0)
        total = count + here
        share = here / tl.maximum(total, 1.0)
        step = mean_here - mean
        squares += tl.sum(tl.sum(d * d, axis=1), axis=0) + step * step * count * share
        mean += step * share
        count = total
    at = ((batch * tl.num_programs(1) + group) * chunks + chunk) * 2
    tl.store(sums_ptr + at, mean)
    tl.store(sums_ptr + at + 1, squares)


@triton.jit(do_not_specialize=_UNSPECIAL)
def _norm(
    x_ptr, y_ptr, sums_ptr, w_ptr, b_ptr, c_ptr, bc_ptr, rows, channels, width, per_chunk, chunks, eps,
    c_width, bc_width, silu, ROWS: tl.constexpr, WIDTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0)
    group = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    each = tl.arange(0, CHUNKS)
    at = ((batch * tl.num_programs(1) + group) * chunks + each) * 2
    counts = (tl.maximum(tl.minimum(rows - each * per_chunk, per_chunk), 0) * width).to(tl.float32)
    means = tl.load(sums_ptr + at, mask=each < chunks, other=0.0)
    squares = tl.load(sums_ptr + at + 1, mask=each < chunks, other=0.0)
    count = tl.sum(counts, axis=0)
    mean = tl.sum(means * counts, axis=0) / count
    variance = tl.sum(squares + counts * (means - mean) * (means - mean), axis=0) / count
    scale = tl.rsqrt(variance + eps)
    column = tl.arange(0, WIDTH)[None, :]
    channel = group * width + column
    valid = column < width
    for first in range(0, per_chunk, ROWS):
        row = chunk * per_chunk + first + tl.arange(0, ROWS)[:, None]
        inside = (row < rows) & valid
        place = (batch * rows + row) * channels + channel
        x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
        x = _shifted(x, c_ptr, bc_ptr, batch, channel, channels, column, c_width, bc_width)
        y = _finished(x - mean, scale, w_ptr, b_ptr, channel, valid, silu)
        tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=inside)


def group_norm(
    x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float, shifts: plain.Shifts = ()
) -> Tensor:
    """See `nn.ops.group_norm`."""
    if not _takes(x_BCHW, shifts):
        return plain.group_norm(x_BCHW, groups, weight_C, bias_C, eps, shifts)
    return _normed(x_BCHW, groups, weight_C, bias_C, eps, shifts, silu=0)


def group_norm_silu(
    x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float, shifts: plain.Shifts = ()
) -> Tensor:
    """See `nn.ops.group_norm_silu`."""
    if not _takes(x_BCHW, shifts):
        return plain.group_norm_silu(x_BCHW, groups, weight_C, bias_C, eps, shifts)
    return _normed(x_BCHW, groups, weight_C, bias_C, eps, shifts, silu=1)


def _takes(x_BCHW: Tensor, shifts: plain.Shifts) -> bool:
    """Layers add at most a bias [C] and a time embedding [B, C]."""
    kinds = [shift.ndim for shift in shifts]
    return takes_pictures(x_BCHW) and kinds in ([], [1], [2], [1, 2]) and all(s.is_contiguous() for s in shifts)


def _normed(
    x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float, shifts: plain.Shifts, silu: int
) -> Tensor:
    batch, channels, height, wide = x_BCHW.shape
    rows, width = height * wide, channels // groups
    y_BCHW = torch.empty_like(x_BCHW)
    by_kind = {shift.ndim: shift for shift in shifts}
    # A pointer has to be given for what is not there, and is not followed.
    c, bc = (by_kind.get(kind, x_BCHW) for kind in (1, 2))
    widths = [width if kind in by_kind else 0 for kind in (1, 2)]
    tile_width = triton.next_power_of_2(width)
    if triton.next_power_of_2(rows) * tile_width <= _LARGEST_TILE:
        tile = {"ROWS": triton.next_power_of_2(rows), "WIDTH": tile_width}
        arguments = (y_BCHW, weight_C, bias_C, c, bc, rows, channels, width, eps, *widths, silu)
        start(_small, (batch, groups), x_BCHW, *arguments, **tile, num_warps=8)
        return y_BCHW
    tile_rows = max(1, _TILE // tile_width)
    per_chunk = triton.cdiv(triton.cdiv(rows, _MOST_CHUNKS), tile_rows) * tile_rows
    chunks = triton.cdiv(rows, per_chunk)
    sums = torch.empty(batch, groups, chunks, 2, dtype=torch.float32, device=x_BCHW.device)
    grid, tile = (chunks, groups, batch), {"ROWS": tile_rows, "WIDTH": tile_width}
    sizes = (rows, channels, width, per_chunk, chunks)
    start(_sums, grid, x_BCHW, sums, c, bc, *sizes, *widths, **tile, num_warps=4)
    rest = (weight_C, bias_C, c, bc, *sizes, eps, *widths, silu)
    start(_norm, grid, x_BCHW, y_BCHW, sums, *rest, **tile, CHUNKS=triton.next_power_of_2(chunks), num_warps=4)
    return y_BCHW
