"""Layers as functions of arrays, under the names that `nn/` gives its parameters and in the layout that it stores.

Pictures travel as BHWC, which is what convolutions on TPUs and CPUs read; the weights keep torch's order of axes, so
that every checkpoint comes through one path. Norms and softmax are computed in float32, whatever the weights are.

Shapes: B rows, H W picture, C channels (K: those of the result), G groups, E time embedding, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

Arrays = Mapping[str, Array]
Activation = Callable[[Array], Array]
Padding = Sequence[tuple[int, int]]


LARGEST_COPIED, LEAST_WEIGHTS, MOST_NUMBERS = 1024, 1 << 21, 1 << 26
"""Of how many places a picture, and of how many weights at least, a CPU convolves as a product of matrices: larger
pictures are slower so, and smaller weights take longer to compile than they bring. The last bounds the copies."""


@dataclass(frozen=True)
class At:
    """The arrays of a flat dict at a place of it: those of `At(arrays) / "down_blocks" / 0` begin `down_blocks.0.`."""

    arrays: Arrays
    place: str = ""

    def __truediv__(self, name: str | int) -> At:
        return At(self.arrays, f"{self.place}{name}.")

    def __getitem__(self, leaf: str) -> Array:
        return self.arrays[self.place + leaf]


def quick_gelu(x: Array) -> Array:
    return x * jax.nn.sigmoid(1.702 * x)


def mish(x: Array) -> Array:
    return x * jnp.tanh(jax.nn.softplus(x))


_gelu = partial(jax.nn.gelu, approximate=False)
_gelu_tanh = partial(jax.nn.gelu, approximate=True)
ACTIVATIONS: Mapping[str, Activation] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": mish,
    "gelu": _gelu,
    "relu": jax.nn.relu,
    "quick_gelu": quick_gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
}


def linear(w: At, x: Array, *, bias: bool = True) -> Array:
    """Of the last axis, whatever is before it."""
    y = x @ w["weight"].T
    return y + w["bias"] if bias else y


def conv(w: At, x_BHWC: Array, *, stride: int = 1, padding: int | Padding = 0, bias: bool = True) -> Array:
    """[B, H, W, K]; `padding` is one number, or (before, after) for each side."""
    pads = [(padding, padding)] * 2 if isinstance(padding, int) else list(padding)
    if stride == 1 and _is_better_multiplied(x_BHWC, w["weight"]):
        y_BHWK = _multiplied(x_BHWC, w["weight"], pads)
    else:
        layout = ("NHWC", "OIHW", "NHWC")
        y_BHWK = lax.conv_general_dilated(x_BHWC, w["weight"], (stride, stride), pads, dimension_numbers=layout)
    return y_BHWK + w["bias"] if bias else y_BHWK


def _is_better_multiplied(x_BHWC: Array, weight_KChw: Array) -> bool:
    """Whether a convolution is faster as one product of matrices: on a CPU, where copies of the picture are small."""
    high, wide = weight_KChw.shape[2:]
    sized = x_BHWC.shape[1] * x_BHWC.shape[2] <= LARGEST_COPIED and weight_KChw.size >= LEAST_WEIGHTS
    bounded = x_BHWC.size * high * wide <= MOST_NUMBERS
    return sized and bounded and high > 1 and jax.default_backend() == "cpu"


def _multiplied(x_BHWC: Array, weight_KChw: Array, pads: Padding) -> Array:
    """A convolution of stride 1: what each place sees in one row, times the weights."""
    results, channels, high, wide = weight_KChw.shape
    padded = jnp.pad(x_BHWC, ((0, 0), *pads, (0, 0)))
    height, width = padded.shape[1] - high + 1, padded.shape[2] - wide + 1
    seen = [padded[:, i : i + height, j : j + width] for i in range(high) for j in range(wide)]
    weight = weight_KChw.transpose(2, 3, 1, 0).reshape(high * wide * channels, results)
    return jnp.concatenate(seen, axis=-1) @ weight


def group_norm(w: At, x: Array, groups: int, eps: float) -> Array:
    """Of rows with any number of places between the first and the last axis, which holds the channels."""
    x_BPGF = x.astype(jnp.float32).reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean = x_BPGF.mean(axis=(1, 3), keepdims=True)
    variance = jnp.square(x_BPGF - mean).mean(axis=(1, 3), keepdims=True)
    y = ((x_BPGF - mean) * lax.rsqrt(variance + eps)).reshape(x.shape)
    return (y * w["weight"] + w["bias"]).astype(x.dtype)


def layer_norm(w: At, x: Array, eps: float = 1e-5) -> Array:
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(axis=-1, keepdims=True)
    return ((wide - mean) * lax.rsqrt(variance + eps) * w["weight"] + w["bias"]).astype(x.dtype)


def sinusoid(t_B: Array, dim: int, *, flip_sin_to_cos: bool, freq_shift: float) -> Array:
    """Sinusoidal features of the timesteps in float32, [B, dim], as `nn.layers.sinusoid` says."""
    half = dim // 2
    exponent = -math.log(10000) * jnp.arange(half, dtype=jnp.float32) / (half - freq_shift)
    angle = t_B[:, None].astype(jnp.float32) * jnp.exp(exponent)[None, :]
    parts = [jnp.cos(angle), jnp.sin(angle)] if flip_sin_to_cos else [jnp.sin(angle), jnp.cos(angle)]
    return jnp.pad(jnp.concatenate(parts, axis=-1), ((0, 0), (0, dim % 2)))


@dataclass(frozen=True)
class ResnetKind:
    """What the residual blocks of a network share."""

    groups: int
    eps: float
    act: Activation
    scale_shift: bool = False


def resnet(w: At, kind: ResnetKind, x_BHWC: Array, emb_BE: Array | None = None, divisor: float = 1.0) -> Array:
    """Two convolutions with the time embedding (after its activation) between them, beside a shortcut: [B, H, W, K]."""
    h_BHWK = conv(w / "conv1", kind.act(group_norm(w / "norm1", x_BHWC, kind.groups, kind.eps)), padding=1)
    shift: Array | float = 0.0
    scale: Array | None = None
    if emb_BE is not None:
        shift = linear(w / "time_emb_proj", emb_BE)[:, None, None, :]
        if kind.scale_shift:
            scale, shift = jnp.split(shift, 2, axis=-1)
    if scale is None:
        h_BHWK = kind.act(group_norm(w / "norm2", h_BHWK + shift, kind.groups, kind.eps))
    else:
        h_BHWK = kind.act(group_norm(w / "norm2", h_BHWK, kind.groups, kind.eps) * (1 + scale) + shift)
    h_BHWK = conv(w / "conv2", h_BHWK, padding=1)
    skip_BHWK = x_BHWC if x_BHWC.shape[-1] == h_BHWK.shape[-1] else conv(w / "conv_shortcut", x_BHWC)
    out_BHWK = skip_BHWK + h_BHWK
    return out_BHWK if divisor == 1.0 else out_BHWK / divisor


def downsample(w: At, x_BHWC: Array, padding: int) -> Array:
    """Half the resolution. Padding 0 pads the right and bottom only, as LDM's encoder does."""
    return conv(w / "conv", x_BHWC, stride=2, padding=padding or [(0, 1), (0, 1)])


def upsample(w: At, x_BHWC: Array, size: tuple[int, int] | None = None) -> Array:
    """Twice the resolution, or the `size` of the skip that it will be joined with (odd sizes), then a convolution."""
    height, width = size or (x_BHWC.shape[1] * 2, x_BHWC.shape[2] * 2)
    # The nearest place as torch has it: floor(i * inputs / outputs).
    rows = jnp.arange(height) * x_BHWC.shape[1] // height
    columns = jnp.arange(width) * x_BHWC.shape[2] // width
    return conv(w / "conv", x_BHWC[:, rows][:, :, columns], padding=1)
