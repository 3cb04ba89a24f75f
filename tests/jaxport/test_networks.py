"""Each network in JAX against the torch one with the same weights; and every name of its state dict is read."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny.networks import tiny_clip, tiny_unet, tiny_vae

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'sdedit-cli[test]'")

from sdedit_cli.jaxport import vae
from sdedit_cli.jaxport.attention import attention
from sdedit_cli.jaxport.clip import encode_text
from sdedit_cli.jaxport.layers import At, conv
from sdedit_cli.jaxport.unet import unet

ATOL = 1e-4


class Read(dict[str, Any]):
    """A flat dict of arrays that notes which of them are asked for."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        super().__init__(arrays)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)


def arrays(module: torch.nn.Module) -> dict[str, Any]:
    return {name: jax.numpy.asarray(tensor.numpy()) for name, tensor in module.state_dict().items()}


def last(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).numpy()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("family", ["lcm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sd15", "sd21"))])
@torch.no_grad()
def test_the_unet_gives_torchs_numbers_at_an_odd_size(family: str) -> None:
    model = tiny_unet(family, layers_per_block=1)
    config, x, text, t = model.config, draw(2, 4, 9, 7), draw(2, 7, 32), torch.tensor([981.0, 1.0])
    guidance = draw(2, config.time_cond_proj_dim) if config.time_cond_proj_dim else None
    want = model(x, model.embed_time(t, guidance_BG=guidance), model.context(text))
    inputs = (last(x), t.numpy(), text.numpy(), *(() if guidance is None else (guidance.numpy(),)))
    got = jax.jit(lambda w, *inputs: unet(w, config, *inputs))(arrays(model), *inputs)
    np.testing.assert_allclose(np.asarray(got), last(want), atol=ATOL)


THREE = {
    "block_out_channels": [16, 32, 48],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "two layers": {"layers_per_block": 2},
    "three levels": {**THREE, "layers_per_block": [1, 2, 1]},
    "text alone": {"only_cross_attention": [True, False]},
    "no bottom": {"mid_block_type": None},
    "a plain bottom": {"mid_block_type": "UNetMidBlock2D"},
    "scale and shift": {"resnet_time_scale_shift": "scale_shift"},
    "deep": {"transformer_layers_per_block": [2, 1]},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_unet_reads_every_name_of_every_kind_of_config(variant: str) -> None:
    model = tiny_unet("sd15", **VARIANTS[variant])
    held = Read(arrays(model))
    out = jax.eval_shape(
        lambda x, t, text: unet(held, model.config, x, t, text),
        *(jax.ShapeDtypeStruct(shape, np.float32) for shape in ((1, 8, 8, 4), (1,), (1, 7, 32))),
    )
    assert out.shape == (1, 8, 8, 4)
    assert held.names == set(model.state_dict())


@torch.no_grad()
def test_the_autoencoder_gives_torchs_numbers_and_reads_every_name() -> None:
    model = tiny_vae()
    held, x = Read(arrays(model)), draw(1, 3, 18, 12).tanh()
    posterior = model.encode(x)

    def both(x_BHWC: Any, z_BhwZ: Any) -> Any:
        return vae.encode(held, model.config, x_BHWC), vae.decode(held, model.config, z_BhwZ)

    (mean, std), pixels = jax.jit(both)(last(x), last(posterior.mean))
    np.testing.assert_allclose(np.asarray(mean), last(posterior.mean), atol=ATOL)
    np.testing.assert_allclose(np.asarray(std), last(posterior.std), atol=ATOL)
    np.testing.assert_allclose(np.asarray(pixels), last(model.decode(posterior.mean)), atol=ATOL)
    assert held.names == set(model.state_dict())


@torch.no_grad()
def test_the_text_encoder_gives_torchs_numbers_and_reads_every_name() -> None:
    model = tiny_clip(vocab_size=100, eos_token_id=99)
    ids = torch.randint(0, 99, (2, 11), generator=torch.Generator().manual_seed(1))
    held, out = Read(arrays(model)), model(ids)
    whole, skipped = jax.jit(lambda i: tuple(encode_text(held, model.config, i, skip) for skip in (None, 1)))(
        ids.numpy()
    )
    np.testing.assert_allclose(np.asarray(whole), out.last_hidden_state.numpy(), atol=ATOL)
    np.testing.assert_allclose(np.asarray(skipped), model.final_norm(out.hidden_states[-2]).numpy(), atol=ATOL)
    assert held.names == set(model.state_dict())


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_attention_in_pieces_is_attention(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """All heads together, or as a CPU takes it: a head at a time; 21 queries do not share out evenly."""
    q, k, v = (jax.random.normal(jax.random.PRNGKey(n), (2, size, 3, 4)) for n, size in enumerate((21, 19, 19)))
    whole = attention(q, k, v)
    monkeypatch.setattr("sdedit_cli.jaxport.attention.LARGEST_SCORES", 2 * 3 * 21 * 8)
    monkeypatch.setattr("sdedit_cli.jaxport.attention.CPU_QUERIES", 5)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    np.testing.assert_allclose(np.asarray(attention(q, k, v)), np.asarray(whole), atol=1e-6)


@pytest.mark.parametrize("size", [(3, 3), (5, 5)], ids=str)
@pytest.mark.parametrize("padding", [0, 1, [(0, 1), (2, 1)]], ids=str)
def test_a_convolution_as_a_product_is_that_convolution(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], padding: Any
) -> None:
    monkeypatch.setattr("sdedit_cli.jaxport.layers.LEAST_WEIGHTS", 0)
    bias = np.arange(7, dtype=np.float32)
    weights: Any = {"weight": jax.random.normal(jax.random.PRNGKey(0), (7, 4, *size)), "bias": bias}
    x = jax.random.normal(jax.random.PRNGKey(1), (2, 9, 6, 4))

    def both() -> tuple[Any, str]:
        """What it gives, and its program: of a new function, as JAX remembers the programs of old ones."""
        made = partial(conv, At(weights), padding=padding)
        return made(x), str(jax.make_jaxpr(made)(x))

    product, its_program = both()
    monkeypatch.setattr("sdedit_cli.jaxport.layers.LARGEST_COPIED", 0)
    convolved, other_program = both()
    assert product.shape == convolved.shape
    np.testing.assert_allclose(np.asarray(product), np.asarray(convolved), atol=1e-4)
    # Their bits may well be the same: which is which, the programs tell.
    assert ["conv_general_dilated" in program for program in (its_program, other_program)] == [False, True]


def test_what_a_product_copies_is_bounded() -> None:
    """However many pictures come at once, the copies that a convolution makes are no larger than is allowed."""
    made: dict[int, int] = {}
    for rows in (2, 64):
        x = jax.ShapeDtypeStruct((rows, 32, 32, 640), np.float32)
        weights: Any = {"weight": jax.ShapeDtypeStruct((640, 640, 3, 3), np.float32)}
        traced = jax.make_jaxpr(lambda x, w: conv(At({"weight": w}), x, padding=1, bias=False))(x, weights["weight"])
        made[rows] = max(int(np.prod(var.aval.shape)) for step in traced.eqns for var in step.outvars)
    assert made[2] == 2 * 32 * 32 * 9 * 640, "few are one product"
    assert made[64] <= 1 << 26
