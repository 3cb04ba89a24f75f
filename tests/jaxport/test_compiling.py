"""What a compiled program takes of memory: weights in half precision are not all held in float32 at once on a CPU."""

from __future__ import annotations

from typing import Any

import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'sdedit-cli[test]'")

from jax import numpy as jnp

from sdedit_cli.jaxport.compiling import compiled
from sdedit_cli.jaxport.layers import At, conv, linear

LAYERS, WIDTH = 12, 256


def stack(arrays: dict[str, Any], x_BHWC: Any) -> Any:
    for n in range(LAYERS):
        x_BHWC = linear(
            At(arrays) / n / "linear", conv(At(arrays) / n / "conv", x_BHWC, padding=1, bias=False), bias=False
        )
    return x_BHWC


def looped(arrays: dict[str, Any], x_BHWC: Any) -> Any:
    return jax.lax.fori_loop(0, 5, lambda _, x_BHWC: stack(arrays, x_BHWC), x_BHWC)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of CPUs")
@pytest.mark.parametrize("program", [stack, looped], ids=["a step", "all steps"])
def test_a_program_in_half_precision_takes_less_memory_beside_its_weights_than_these(program: Any) -> None:
    shapes = {f"{n}.conv.weight": (WIDTH, WIDTH, 3, 3) for n in range(LAYERS)}
    shapes |= {f"{n}.linear.weight": (WIDTH, WIDTH) for n in range(LAYERS)}
    arrays = {name: jax.ShapeDtypeStruct(shape, jnp.bfloat16) for name, shape in shapes.items()}
    x = jax.ShapeDtypeStruct((1, 8, 8, WIDTH), jnp.bfloat16)
    used = compiled(program).lower(arrays, x).compile().memory_analysis()
    assert used.argument_size_in_bytes > 2 * 10 * LAYERS * WIDTH**2
    # One layer of twelve in float32, where all of them would be twice the weights.
    assert used.temp_size_in_bytes < used.argument_size_in_bytes / 2
