"""Attention: the transformers of the UNet's levels, the single head of the autoencoder, and CLIP's layers.

Shapes: B rows, H W picture, T tokens (H*W positions), S keys, N heads, D width of a head, C channels.
"""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from .layers import Activation, At, conv, group_norm, layer_norm, linear

LARGEST_SCORES = 1 << 26
"""Scores that are held at once, 256 MB of them: longer rows of queries are taken in pieces, so that memory is bounded
at every size of picture."""
CPU_QUERIES = 512
"""Queries of one head that a CPU takes at a time: their scores stay in its caches."""


def attention(q_BTND: Array, k_BSND: Array, v_BSND: Array, *, causal: bool = False) -> Array:
    """softmax(q k / sqrt(D)) v, per head, with scores in float32: [B, T, N, D]."""
    rows, tokens, heads, _ = q_BTND.shape
    keys = k_BSND.shape[1]
    count = max(1, LARGEST_SCORES // (rows * heads * keys))
    if causal:
        return _attend(q_BTND, k_BSND, v_BSND, causal)
    if min(tokens, keys) > CPU_QUERIES and jax.default_backend() == "cpu":
        return _head_by_head(q_BTND, k_BSND, v_BSND, min(count, CPU_QUERIES))
    return _in_pieces(q_BTND, k_BSND, v_BSND, count)


def _head_by_head(q_BTND: Array, k_BSND: Array, v_BSND: Array, count: int) -> Array:
    """Each head of each row after the other, and of it `count` queries at a time."""

    def head(qkv: tuple[Array, Array, Array]) -> Array:
        q_1T1D, k_1S1D, v_1S1D = (x[None, :, None] for x in qkv)
        wide = jnp.float32  # as it computes anyway: once, and not for each piece
        return _in_pieces(q_1T1D, k_1S1D.astype(wide), v_1S1D.astype(wide), count)[0, :, 0]

    rows, _, heads, _ = q_BTND.shape
    each = tuple(x.swapaxes(1, 2).reshape(rows * heads, *x.shape[1::2]) for x in (q_BTND, k_BSND, v_BSND))
    h_BNTD = cast(Array, lax.map(head, each)).reshape(rows, heads, *q_BTND.shape[1::2])
    return h_BNTD.swapaxes(1, 2)


def _in_pieces(q_BTND: Array, k_BSND: Array, v_BSND: Array, count: int) -> Array:
    """At most `count` queries at a time."""
    rows, tokens = q_BTND.shape[:2]
    if tokens <= count:
        return _attend(q_BTND, k_BSND, v_BSND, False)
    pieces = -(-tokens // count)
    count = -(-tokens // pieces)
    padded = jnp.pad(q_BTND, ((0, 0), (0, pieces * count - tokens), (0, 0), (0, 0)))
    q_PBtND = padded.reshape(rows, pieces, count, *q_BTND.shape[2:]).swapaxes(0, 1)

    def piece(q_BtND: Array) -> Array:
        return _attend(q_BtND, k_BSND, v_BSND, False)

    h_PBtND = cast(Array, lax.map(piece, q_PBtND))
    return h_PBtND.swapaxes(0, 1).reshape(padded.shape)[:, :tokens]


def _attend(q_BTND: Array, k_BSND: Array, v_BSND: Array, causal: bool) -> Array:
    scores_BNTS = jnp.einsum("btnd,bsnd->bnts", q_BTND, k_BSND, preferred_element_type=jnp.float32)
    scores_BNTS = scores_BNTS * q_BTND.shape[-1] ** -0.5
    if causal:
        below = jnp.tril(jnp.ones(scores_BNTS.shape[-2:], dtype=bool))
        scores_BNTS = jnp.where(below, scores_BNTS, -jnp.inf)
    # softmax, divided where there are fewer numbers: a head is narrower than the keys are many
    powers_BNTS = jnp.exp(scores_BNTS - scores_BNTS.max(axis=-1, keepdims=True))
    sums_BTN1 = powers_BNTS.sum(axis=-1).swapaxes(1, 2)[..., None]
    h_BTND = jnp.einsum("bnts,bsnd->btnd", powers_BNTS.astype(v_BSND.dtype), v_BSND, preferred_element_type=jnp.float32)
    return (h_BTND / sums_BTN1).astype(q_BTND.dtype)


def heads_of(x_BTC: Array, heads: int) -> Array:
    """[B, T, N, D]."""
    return x_BTC.reshape(*x_BTC.shape[:2], heads, -1)


def _attention_layer(w: At, x_BTC: Array, source_BSC: Array, heads: int, *, bias: bool = False) -> Array:
    q, k, v = (
        heads_of(linear(w / name, of, bias=bias), heads)
        for name, of in (("to_q", x_BTC), ("to_k", source_BSC), ("to_v", source_BSC))
    )
    return linear(w / "to_out" / 0, attention(q, k, v).reshape(x_BTC.shape))


def _feed_forward(w: At, x_BTC: Array) -> Array:
    value, gate = jnp.split(linear(w / "net" / 0 / "proj", x_BTC), 2, axis=-1)
    return linear(w / "net" / 2, value * jax.nn.gelu(gate, approximate=False))


def _block(w: At, x_BTC: Array, text_BSC: Array, heads: int, only_cross_attention: bool) -> Array:
    h_BTC = layer_norm(w / "norm1", x_BTC)
    x_BTC = _attention_layer(w / "attn1", h_BTC, text_BSC if only_cross_attention else h_BTC, heads) + x_BTC
    x_BTC = _attention_layer(w / "attn2", layer_norm(w / "norm2", x_BTC), text_BSC, heads) + x_BTC
    return _feed_forward(w / "ff", layer_norm(w / "norm3", x_BTC)) + x_BTC


def transformer(
    w: At,
    x_BHWC: Array,
    text_BSC: Array,
    *,
    heads: int,
    depth: int,
    groups: int,
    by_linear: bool,
    only_cross_attention: bool,
) -> Array:
    """Transformer blocks over the positions of a picture, with a residual: [B, H, W, C].

    `by_linear`: whether they are entered and left by linear layers (SD 2.x) or by 1x1 convolutions (SD 1.x).
    """
    project = linear if by_linear else conv
    h_BHWC = project(w / "proj_in", group_norm(w / "norm", x_BHWC, groups, 1e-6))
    h_BTC = h_BHWC.reshape(x_BHWC.shape[0], -1, x_BHWC.shape[-1])
    for i in range(depth):
        h_BTC = _block(w / "transformer_blocks" / i, h_BTC, text_BSC, heads, only_cross_attention)
    return project(w / "proj_out", h_BTC.reshape(x_BHWC.shape)) + x_BHWC


def picture_attention(w: At, x_BHWC: Array, groups: int, eps: float) -> Array:
    """One head over all positions of a picture, with its own norm and residual: the autoencoder's bottom."""
    h_BTC = group_norm(w / "group_norm", x_BHWC, groups, eps).reshape(x_BHWC.shape[0], -1, x_BHWC.shape[-1])
    return _attention_layer(w, h_BTC, h_BTC, 1, bias=True).reshape(x_BHWC.shape) + x_BHWC


def clip_layer(w: At, x_BTC: Array, *, heads: int, eps: float, act: Activation, causal: bool) -> Array:
    """A layer of CLIP's towers: text looks back only, pictures look everywhere."""
    h_BTC, attn = layer_norm(w / "layer_norm1", x_BTC, eps), w / "self_attn"
    q, k, v = (heads_of(linear(attn / f"{name}_proj", h_BTC), heads) for name in "qkv")
    x_BTC = x_BTC + linear(attn / "out_proj", attention(q, k, v, causal=causal).reshape(x_BTC.shape))
    h_BTC = linear(w / "mlp" / "fc1", layer_norm(w / "layer_norm2", x_BTC, eps))
    return x_BTC + linear(w / "mlp" / "fc2", act(h_BTC))
