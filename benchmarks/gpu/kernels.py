"""Every kernel against its plain twin, in each precision: the furthest result as a share of the largest. The twin
computes in float32. On a CPU Triton's interpreter runs the kernels."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from ..common.rows import Row
from .checks import check, furthest

BOUNDS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
OF_A_NETWORK = 5e-3  # convolutions of GPUs round to TF32 on the way
TINY = {
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 32,
    "attention_head_dim": 2,
}
# Batch, channels, height, width, groups: a tile at once, and in chunks with a rest; sizes of no power of two.
PICTURES = {
    "quick": [(2, 24, 5, 7, 4), (1, 12, 70, 61, 2)],
    "full": [(2, 320, 64, 64, 32), (2, 2560, 8, 8, 32), (2, 960, 33, 47, 32), (1, 128, 512, 512, 32)],
}
TOKENS = {"quick": [(2, 7, 40)], "full": [(2, 4096, 320), (2, 64, 1280), (3, 77, 1000)]}


def run(given: argparse.Namespace) -> Iterator[Row]:
    import torch

    from sdedit_cli.runtime import kernels

    if not kernels.are_there():
        raise RuntimeError("triton is not installed, so there are no kernels to check: pip install triton")
    torch.manual_seed(0)
    with torch.no_grad():
        for dtype in BOUNDS:
            for name, case, kernel, twin in _cases(given, getattr(torch, dtype)):
                yield check(f"{name}, {case}", dtype, furthest_of(kernel(), twin()), BOUNDS[dtype])
        yield check("a tiny UNet with all of them", "float32", whole_network(given), OF_A_NETWORK)


def whole_network(given: argparse.Namespace) -> float:
    """How far a UNet with kernels, joint projections and its channels last is from the plain one."""
    import torch

    from sdedit_cli.configs.unet import UNetConfig
    from sdedit_cli.nn import UNet2DCondition
    from sdedit_cli.nn.fuse import fuse_qkv
    from sdedit_cli.runtime import kernels

    with torch.device(given.device):
        unet = UNet2DCondition(UNetConfig.from_dict(TINY)).eval()
    context = unet.context(torch.randn(2, 7, 32, device=given.device))
    x, emb = torch.randn(2, 4, 16, 16, device=given.device), unet.embed_time(torch.tensor([900.0, 10.0]))
    plain = unet(x, emb, context)
    kernels.put_into(unet.ops)
    fuse_qkv(unet)
    unet.to(memory_format=torch.channels_last)
    return furthest(unet(x, emb, context), plain)


def furthest_of(got: Any, expected: Any) -> float:
    """Of one result, or of several."""
    if isinstance(got, tuple):
        return max(furthest(a, b) for a, b in zip(got, expected, strict=True))
    return furthest(got, expected)


Case = tuple[str, str, Callable[[], Any], Callable[[], Any]]


def _cases(given: argparse.Namespace, dtype: Any) -> Iterator[Case]:
    import torch

    from sdedit_cli.nn import ops as plain
    from sdedit_cli.runtime.kernels import elementwise, group_norm, layer_norm

    def normal(*shape: int) -> Any:
        return torch.randn(shape, device=given.device).to(dtype)

    def wide(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(wide, value))
        return value.float() if isinstance(value, torch.Tensor) else value

    def case(home: Any, name: str, shape: str, *args: Any) -> Case:
        twin: Callable[..., Any] = getattr(plain, name)
        return name, shape, lambda: getattr(home, name)(*args), lambda: twin(*map(wide, args))

    size = "quick" if given.quick else "full"
    for batch, channels, height, width, groups in PICTURES[size]:
        x, skip = (
            normal(batch, channels, height, width).mul(2).add(1).contiguous(memory_format=torch.channels_last)
            for _ in range(2)
        )
        weight, bias, c, bc = normal(channels), normal(channels), normal(channels), normal(batch, channels)
        shape = f"{batch} x {channels} x {height} x {width}"
        for shifts in ((), (c,), (c, bc)):
            name = "group_norm" if not shifts else "group_norm_silu"
            yield case(group_norm, name, f"{shape}, {len(shifts)} shifts", x, groups, weight, bias, 1e-5, shifts)
            more = (c, weight)[: len(shifts)]
            yield case(elementwise, "residual", f"{shape}, {len(more)} biases", x, skip, more)
    for batch, tokens, width in TOKENS[size]:
        x, h, weight, bias = normal(batch, tokens, width), normal(batch, tokens, width), normal(width), normal(width)
        shape = f"{batch} x {tokens} x {width}"
        yield case(layer_norm, "layer_norm", shape, x, weight, bias, 1e-5)
        yield case(layer_norm, "add_layer_norm", shape, h, x, weight, bias, 1e-5)
        yield case(elementwise, "geglu", shape, normal(batch, tokens, 2 * width))
